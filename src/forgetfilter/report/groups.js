// Rows by subject and by column. Comes before page.js, whose elements and numbers it uses.

const MASK = '•••', EXAMPLES = 3;

// The rows of every subject, the most suspicious first, by their ids.
function topicMembers() {
  const { ids, suspicion, of, copies, telling } = data.topics, found = telling.map(() => []);
  ids.forEach((id, i) => found[of[i]].push({ id, suspicion: suspicion[i], original: ids[copies[i]] }));
  return found;
}

// Words of a subject; those on the list of offensive words only where texts are shown.
function topicName(k) {
  const shown = document.body.classList.contains('revealed');
  const words = data.topics.telling[k].map(({ word, listed }) => (listed && !shown ? [...word][0] + MASK : visible(word)));
  return words.length ? `“${words.join(', ')}”` : 'nothing in common';
}

// The rows that the filter removes at this threshold, and those that a person decided about.
const topicRows = (k) => members[k].filter((row) => row.suspicion > threshold || overrides.has(row.id));

const isRemoved = (row) => decision(row) === removed;

// The subjects with rows, those with most rows first.
function topicsNow() {
  const found = members.map((_, k) => ({ k, rows: topicRows(k) })).filter(({ rows }) => rows.length);
  return found.sort((a, b) => b.rows.length - a.rows.length || a.k - b.k);
}

function foundSays(gone, judged) {
  const share = gone / Math.max(1, judged);
  const found = topicsNow().map(({ k, rows }) => ({ k, count: rows.filter(isRemoved).length })).filter(({ count }) => count);
  // Rows without a score do not look like anything.
  const looks = summary.drop_unscorable && unscored ? ['is', 'are'] : ['looks unsafe and is', 'look unsafe and are'];
  const said = [element('b', {}, `${gone === 1 ? `One row ${looks[0]}` : `${number(gone)} rows ${looks[1]}`} ` +
    `removed, ${share && share < 0.01 ? 'less than 1%' : percent(share)} of ${number(judged)}.`)];
  if (gone && found.length) {
    const named = found.filter(({ k }) => data.topics.telling[k].length).sort((a, b) => b.count - a.count).slice(0, 3);
    const list = named.map(({ k, count }) => `${topicName(k)} (${rowCount(count)})`).join(', ');
    if (list) said.push(` The largest groups: ${list}. `, element('a', { href: '#topics' }, 'All subjects'));
  }
  if (!data.unsure || threshold !== decided) return gone ? said : ['Nothing is removed: no row lies above the threshold.'];
  const why = summary.drop_unscorable && unscored ? 'marked by a person or without a score' : 'marked by a person';
  return [element('b', {}, 'Not sure: the filter cannot tell which rows are unsafe, so it removes none.'),
    ' This is no clean bill of health.', gone ? ` Removed: ${rowCount(gone)}, ${why}.` : ''];
}

const rowCount = (count) => `${number(count)} ${count === 1 ? 'row' : 'rows'}`;

function topicItem({ k, rows }) {
  const removedRows = rows.filter(isRemoved);
  const mine = rows.filter((row) => overrides.has(row.id)).length;
  // Rows that a person marked one by one keep their mark.
  const free = rows.filter((row) => !overrides.has(row.id) || byGroup.has(row.id)), own = rows.length - free.length;
  const item = element('li', { class: removedRows.length ? removed : kept });
  const firsts = new Map();
  for (const row of rows) firsts.set(row.original, (firsts.get(row.original) || 0) + 1);
  const parts = [element('span', { class: 'badge' }, `${number(removedRows.length)} removed`)];
  if (rows.length > removedRows.length) parts.push(element('span', {}, `${number(rows.length - removedRows.length)} kept`));
  if (mine) parts.push(element('span', { class: 'small' }, `${number(mine)} decided by a person`));
  if (firsts.size < rows.length) {
    const copies = number(rows.length - firsts.size);
    parts.push(element('span', { class: 'look' }, `${number(firsts.size)} different, ${copies} near-copies`));
  }
  const range = [rows[rows.length - 1].suspicion, rows[0].suspicion].map((value) => value.toFixed(1));
  parts.push(element('span', { class: 'small' }, `${signal.quality} by ${[...new Set(range)].join(' to ')}`));
  const act = (label, verdict) => {
    const which = own && free.length ? `the other ${number(free.length)}` : `all ${number(rows.length)}`;
    const made = element('button', { type: 'button', 'data-act': label,
      'aria-label': `${label} ${which} rows about ${topicName(k)}` },
    verdict === null ? label : `${label} ${which}`);
    made.disabled = !free.length;
    made.addEventListener('click', () => {
      const ids = (verdict === null ? free.filter((row) => byGroup.has(row.id)) : free).map((row) => row.id);
      overrideGroup(ids, verdict);
      showList();
      byId('topics-done').textContent = verdict === null ? `The filter decides again about ${rowCount(ids.length)}.`
        : `${rowCount(ids.length)} about ${topicName(k)}: ${verdict}.`;
      const again = document.querySelector(`#topic-list [data-topic="${k}"]`);
      if (again) again.querySelector(`[data-act="${label}"]`).focus();
    });
    return made;
  };
  const show = element('button', { type: 'button', 'aria-label': `Show the rows about ${topicName(k)}` }, 'Show these rows');
  show.addEventListener('click', () => showOnly(`topic-${k}`));
  const controls = element('div', { class: 'controls' }, act('Keep', kept), act('Remove', removed),
    act('Undo', null), show);
  if (own) controls.append(element('span', { class: 'small' }, own === 1 ? '1 row keeps its mark' : `${number(own)} rows keep their mark`));
  const shown = [...firsts].map(([id, count]) => ({ row: rowOf.get(id), count })).filter(({ row }) => row)
    .slice(0, EXAMPLES);
  const texts = shown.map(({ row, count }) => element('li', {},
    element('div', { class: 'text veiled', dir: 'auto' }, element('span', { class: 'prompt' }, visible(row.prompt)), '\n',
      visible(row.pieces.join(''))),
    ...(count > 1 ? [element('span', { class: 'look' }, `${number(count)} times, nearly`)] : [])));
  item.append(element('h3', {}, topicName(k)), element('div', { class: 'facts' }, ...parts),
    element('ul', { class: 'samples' }, ...texts), controls);
  if (shown.length) controls.append(revealButton(item, { row: `about ${topicName(k)}` }, () => {}));
  item.dataset.topic = k;
  veil(item);
  return item;
}

function showTopics() {
  const found = topicsNow(), listed = found.flatMap(({ rows }) => rows), there = listed.filter(isRemoved).length;
  const rest = Math.max(0, removedNow().removed - there), spared = listed.length - there;
  const groups = `${number(found.length)} ${found.length === 1 ? 'group' : 'groups'}`;
  const andKept = spared ? ` and ${number(spared)} that a person keeps` : '';
  const said = [`${number(there)} removed ${there === 1 ? 'row' : 'rows'}${andKept}, in ${groups} by the words that they share, the largest ` +
    'first. Named are the words that tell a group from all other rows. One decision about a group holds for all of its ' +
    'rows, also for those that are not listed below.'];
  if (rest) {
    const why = summary.unscorable && summary.drop_unscorable ? 'they have no score, or ' : '';
    said.push(`${about() ? 'About ' : ''}${number(rest)} further removed ${rest === 1 ? 'row is' : 'rows are'} in no group, ` +
      `because ${why}only the ${number(data.topics.ids.length)} rows that are ${signal.most} are grouped.`);
  }
  byId('topics-say').textContent = found.length ? said.join(' ')
    : 'No rows are removed here, so there are no groups.';
  const open = new Set([...byId('topic-list').querySelectorAll('li.open')].map((item) => item.dataset.topic));
  const items = found.map(topicItem);
  byId('topic-list').replaceChildren(...items);
  for (const item of items) if (open.has(item.dataset.topic)) item.querySelector('.reveal').click();
  for (const option of byId('which').querySelectorAll('[value^=topic-]')) {
    option.textContent = `about ${topicName(option.value.slice(6))}`;
  }
}

// --- By column ---

const round = (value) => String(Number(value.toPrecision(2)));

function showGroups() {
  if (!data.groups.length) return;
  const group = data.groups[Number(byId('column').value) || 0];
  byId('sampled').hidden = !group.sampled;
  const removedOf = (one) => (threshold === decided ? one.above
    : Math.round((above(one.suspicion, threshold) * one.count) / one.suspicion.length));
  const found = group.values.map((one) => ({ ...one, gone: removedOf(one) }));
  found.sort((a, b) => (a.value === null) - (b.value === null) || b.gone / b.count - a.gone / a.count || b.gone - a.gone);
  const at = (v) => 4 + (192 * (v - least)) / (most - least || 1);
  byId('grouped').tBodies[0].replaceChildren(...found.map(({ value, others, count, gone, quartiles }) => {
    const bar = drawn('svg', { viewBox: '0 0 200 16', class: 'share', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    const cut = (200 * gone) / count;
    bar.append(drawn('rect', { x: 0, width: cut, y: 1, height: 14, class: 'bar-removed' }),
      drawn('rect', { x: cut, width: 200 - cut, y: 1, height: 14, class: 'bar-kept' }));
    const spread = drawn('svg', { viewBox: '0 0 200 16', class: 'spread', 'aria-hidden': 'true' });
    const [a, b, m, c, d] = quartiles.map(at);
    spread.append(drawn('line', { x1: a, x2: d, y1: 8, y2: 8 }),
      drawn('rect', { x: b, width: Math.max(1, c - b), y: 3, height: 10 }),
      drawn('line', { x1: m, x2: m, y1: 0, y2: 16, class: 'median' }));
    return element('tr', {}, element('th', { scope: 'row' }, value === null ? `${number(others)} other values` : visible(value)),
      element('td', {}, number(count)), element('td', {}, `${number(gone)} (${percent(gone / count)})`),
      element('td', {}, bar), element('td', {}, round(quartiles[2])), element('td', {}, spread));
  }));
}
