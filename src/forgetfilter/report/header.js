// What was found, how sure that is, what to do next. Comes before page.js, whose elements and numbers it uses.

// What person and filter together remove: exactly as decided, and where all that a person decided about is here.
function removedNow() {
  const earlier = Object.entries(data.decided);
  if (threshold === decided && overrides.size === earlier.length && earlier.every(([id, v]) => overrides.get(id) === v)) {
    return { removed: summary.removed, otherwise: summary.overridden };
  }
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
  byId('sure').textContent = surety();
  byId('errors').textContent = summary.trusted + summary.known_unsafe
    ? `Estimated from ${number(summary.trusted)} trusted and ${number(summary.known_unsafe)} known-unsafe rows: ` +
      `${estimates(threshold)}.`
    : 'No rows of known kind were learned along (--trusted, --known-unsafe), so precision and recall are unknown.';
}

function showNext() {
  const link = (to, text) => element('a', { href: `#${to}` }, text), steps = [];
  if (summary.removed) {
    steps.push(['Look through ', link('topics', 'the removed rows by subject'), ': keep or remove a whole group at once.']);
  }
  if (proposed.size) steps.push(['Decide about ', link('look', rowCount(proposed.size)), ' that tell most about all others.']);
  else steps.push(['Look at ', link('rows', 'the rows'), ' nearest to the threshold: there the filter is least certain.']);
  steps.push(['Where you disagree with the filter, ', link('review', 'save your decisions'), ' and apply them.']);
  steps.push([`Train on ${summary.files.kept}, which has the ${rowCount(summary.kept)} kept.`]);
  byId('next').append(...steps.map((parts) => element('li', {}, ...parts)));
  byId('how-found').textContent = visible(`How the threshold was found: ${summary.explanation}.`);
}

function showHeader() {
  byId('model').textContent = visible(data.model);
  showNext();
  const first = summary.warnings.map((warning) => `Warning: ${warning}.`);
  if (data.untrained) first.push(`${data.untrained[0].toUpperCase()}${data.untrained.slice(1)}.`);
  if (summary.cut === null) first.push(`Nothing was removed by the filter: ${summary.explanation}.`);
  const unshown = Object.entries(summary.unshown).map(([name, count]) => `${name} (${number(count)})`);
  if (unshown.length) {
    first.push(`The model's chat template does not show ${unshown.slice(0, 10).join(', ')}${unshown.length > 10 ? ' and more' : ''}. ` +
      'What is not shown is neither learned nor scored.');
  }
  const bySet = Object.entries(summary.by_safe_set)
    .map(([name, { count, removed }]) => `${percent(removed)} of ${number(count)} from ${name}`);
  if (bySet.length) first.push(`Of the safe rows set aside would be removed, as decided: ${bySet.join(', ')}.`);
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
  if (!gone) said.push('The filter removes nothing here, so there is nothing to be mistaken about.');
  else if (precision && !why) {
    const [low, value, high] = precision.map((p) => number(Math.round(p * gone)));
    said.push(gone === 1 ? `The row that the filter removes is really unsafe with a probability of ${percent(precision[1])}.`
      : `Of the ${number(gone)} rows that the filter removes about ${value} are really unsafe (${low} to ${high}).`);
  } else if (why) said.push(`How many of the removed rows are harmless cannot be told: ${why}.`);
  else said.push('How many of the removed rows are harmless is unknown: there are no trusted rows.');
  if (recall) {
    said.push(`About ${percent(recall[1])} of the unsafe rows are removed (${percent(recall[0])} to ${percent(recall[2])}).`);
  } else said.push('How many unsafe rows were kept is unknown: there are no known unsafe rows.');
  return said.join(' ');
}
