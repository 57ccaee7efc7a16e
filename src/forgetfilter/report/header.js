// What was found, how sure that is, what to do next. Comes before page.js, whose elements and numbers it uses.

// Whether the person's decisions are those that the run was decided with.
function marksAreApplied() {
  const earlier = Object.entries(data.decided);
  return overrides.size === earlier.length && earlier.every(([id, verdict]) => overrides.get(id) === verdict);
}

// Who made the decisions that the run was decided with.
const earlierReviewer = () => (summary.reviewer === 'person' ? 'a person' : visible(summary.reviewer));

// A text whose options are not broken over lines.
const withOptions = (text) => text.split(/(--[a-z-]+)/).map((part, i) => (i % 2 ? element('code', { class: 'option' }, part) : part));

// How many rows a person marked as unsafe and as harmless, and of those that the filter removes likewise.
function marks() {
  const counted = { unsafe: 0, harmless: 0, ofRemoved: { unsafe: 0, harmless: 0 } };
  for (const [id, verdict] of overrides) {
    const kind = verdict === removed ? 'unsafe' : 'harmless', suspicion = suspicionOf.get(id) ?? null;
    counted[kind] += 1;
    if (suspicion !== null && suspicion > threshold) counted.ofRemoved[kind] += 1;
  }
  return counted;
}

function marksSay() {
  const { unsafe, harmless } = marks(), all = `${number(overrides.size)} ${overrides.size === 1 ? 'mark' : 'marks'}`;
  const whose = marksAreApplied() ? `the ${all} by ${earlierReviewer()}` : `your ${all}`;
  return `Of ${whose}, ${number(unsafe)} ${unsafe === 1 ? 'is' : 'are'} unsafe, ${number(harmless)} harmless.`;
}

// What person and filter together remove: exactly as decided, and where all that a person decided about is here.
function removedNow() {
  if (threshold === decided && marksAreApplied()) return { removed: summary.removed, otherwise: summary.overridden };
  let count = removedAt(threshold) + (summary.drop_unscorable ? unscored : 0), otherwise = 0;
  for (const [id, verdict] of overrides) {
    if (!suspicionOf.has(id)) continue;
    const said = filterSays(suspicionOf.get(id));
    if (said !== verdict) { otherwise += 1; count += verdict === removed ? 1 : -1; }
  }
  return { removed: count, otherwise };
}

// Counts of another threshold are estimated from quantiles where there are many rows.
const about = () => (threshold !== decided && data.scored > values.length ? 'about ' : '');

function showCounts() {
  const now = removedNow(), judged = summary.rows - summary.bad;
  const counts = [['rows', summary.rows], ['kept', judged - now.removed], ['removed', now.removed]];
  for (const [name, label] of [['unscorable', 'without a score'], ['never_learned', 'never learned'],
    ['truncated', 'cut to length'], ['judged_in_part', 'judged in part'], ['bad', 'unusable'],
    ['left_out', 'left out of the random sample']]) {
    if (summary[name]) counts.push([label, summary[name]]);
  }
  if (now.otherwise) counts.push(['decided otherwise by a person', now.otherwise]);
  byId('counts').replaceChildren(...counts.map(([label, count]) =>
    element('div', {}, element('dt', {}, label), element('dd', {}, number(count)))));
  byId('found').replaceChildren(...foundSays(now.removed, judged));
  byId('sure').replaceChildren(...withOptions(surety()));
  byId('errors').replaceChildren(...withOptions(summary.trusted + summary.known_unsafe
    ? `Estimated${overrides.size ? ', of the filter alone,' : ''} from ${number(summary.trusted)} trusted and ${number(summary.known_unsafe)} known-unsafe rows: ` +
      `${estimates(threshold)}.`
    : 'No rows of known kind were learned along (--trusted, --known-unsafe), so precision and recall are unknown.'));
}

function showNext() {
  const link = (to, text) => element('a', { href: `#${to}` }, text), steps = [];
  const most = proposed.size ? ['Decide about ', link('look', rowCount(proposed.size)), ' that tell most about all others'] : null;
  if (data.unsure) {
    steps.push([...(most || ['Keep or remove ', link('rows', `the ${data.unsure.rows}`)]),
      `${signal.fused ? ': that ranks all other rows anew' : ''}${data.unsure.end ? `; ${data.unsure.end}` : ''}.`]);
    steps.push([`Or remove the ${data.unsure.tenth}: `, ...(marksAreSaved()
      ? [element('code', {}, ...commandOf(fileOfMarks(), data.unsure.threshold))]
      : ['first ', link('review', 'save your decisions'), '; the command that names their file then stands here.'])]);
  }
  const now = removedNow().removed, keptNow = summary.rows - summary.bad - now;
  if (now) {
    steps.push(['Look through ', link('topics', 'the removed rows by subject'), ': keep or remove a whole group at once.']);
  }
  if (most && !data.unsure) steps.push([...most, '.']);
  else if (!data.unsure) steps.push(['Look at ', link('rows', 'the rows'), ' nearest to the threshold: there the filter is least certain.']);
  steps.push(['Where you disagree with the filter, ', link('review', 'save your decisions'), ' and apply them.']);
  // Rows that were kept for lack of evidence are not recommended.
  if (!data.unsure || now) {
    steps.push([threshold === decided && marksAreApplied()
      ? `${data.unsure ? 'Then train' : 'Train'} on ${summary.files.kept}, which has the ${rowCount(keptNow)} kept.`
      : `Train on ${summary.files.kept} once this is applied${signal.fused && !marksAreApplied()
        ? ', which ranks all other rows anew' : `; it then has ${about()}${rowCount(keptNow)}`}.`]);
  }
  byId('next').replaceChildren(...steps.map((parts) => element('li', {}, ...parts)));
}

function showHeader() {
  byId('model').textContent = visible(data.model);
  byId('how-found').textContent = visible(`How the threshold was found: ${summary.explanation}.`);
  const first = summary.warnings.map((warning) => `Warning: ${warning}.`);
  if (data.training) first.push(`${data.training[0].toUpperCase()}${data.training.slice(1)}.`);
  if (summary.cut === null) first.push(`Why the filter removed nothing: ${summary.explanation}.`);
  const unshown = Object.entries(summary.unshown).map(([name, count]) => `${name} (${number(count)})`);
  if (unshown.length) {
    first.push(`The model's chat template does not show ${unshown.slice(0, 10).join(', ')}${unshown.length > 10 ? ' and more' : ''}. ` +
      'What is not shown is neither learned nor scored.');
  }
  const bySet = Object.entries(summary.by_safe_set)
    .map(([name, { count, removed }]) => `${percent(removed)} of ${number(count)} from ${name}`);
  if (bySet.length) first.push(`Of the safe rows set aside, these shares would be removed, as decided: ${bySet.join(', ')}.`);
  for (const line of summary.not_read) first.push(`${line}.`);
  if (summary.swapped) {
    first.push(`${number(summary.swapped)} of ${number(summary.pairs)} pairs look swapped: the chosen answer was ` +
      'forgotten much more than the rejected one. Below they can be shown alone.');
  }
  byId('first').append(...first.map((text) => element('p', text.startsWith('Warning: ') ? { class: 'warning' } : {},
    visible(text))));
}

// The same in plain words.
function surety() {
  const { why, precision, recall } = estimated(threshold), gone = removedAt(threshold), said = [];
  const { unsafe, ofRemoved } = marks(), left = gone - ofRemoved.unsafe - ofRemoved.harmless;
  if (overrides.size) said.push(marksSay());
  if (!gone) said.push(data.unsure ? 'The filter is not sure of any row; any of those that are kept may be unsafe.'
    : 'The filter removes nothing here; unsafe rows may be among those that are kept.');
  else if (left <= 0) said.push('All rows that the filter removes are marked.');
  else if (isTold(precision) && !why) {
    // Of its mistakes, those that are marked are mended.
    const [low, value, high] = precision.map((p) => Math.max(0, left - Math.max(0, Math.round((1 - p) * gone) - ofRemoved.harmless)));
    const rows = overrides.size ? 'removed rows without a mark' : 'removed rows';
    said.push(left === 1 && gone === 1 ? `The removed row is really unsafe with a probability of ${percent(precision[1])}.`
      : `Of the ${number(left)} ${rows} about ${number(value)} are really unsafe (${number(low)} to ${number(high)}).`);
  } else if (why) said.push(`How many of the removed rows are harmless cannot be told: ${why}.`);
  else said.push(`How many of the removed rows are harmless is unknown: ${precision ? 'the trusted rows are too few to tell' : 'there are no trusted rows'}.`);
  if (isTold(recall)) {
    said.push(`About ${percent(recall[1])} of the unsafe rows are removed (${percent(recall[0])} to ${percent(recall[2])}).`);
  } else if (unsafe) {
    said.push('How many unsafe rows were kept is unknown: the marked rows were picked, not drawn at random.');
  } else said.push(`How many unsafe rows were kept is unknown: there are ${recall ? 'too few' : 'no'} known unsafe rows (--known-unsafe).`);
  return said.join(' ');
}
