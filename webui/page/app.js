// The dashboard's page: reads one WebSocket and changes the document as little as possible.
//
// Frames change a model; in the next animation frame the model is compared with the document. The table
// has rows only for the devices in view. Payloads are added to the document as text only.
'use strict';

(() => {
  const WATCHDOG = 60_000; // The server sends something every 25 s.
  const HIDDEN_FOR = 10_000; // A hidden page closes its socket after this.
  const BACKOFF = [500, 15_000];
  const HISTORY = 40; // Points of a field's sparkline.
  const RATE_HISTORY = 120; // Seconds of the header's sparkline.
  const SHOWN_FIELDS = { narrow: 2, wide: 3, from: 1180 }; // Pixels.
  const MOST_FIELDS = 24;
  const MOST_TEXT = 20_000;
  const MOST_BYTES = 2048;
  const MOST_DEPTH = 40;
  const SPARE_ROWS = 8;

  const $ = (id) => document.getElementById(id);
  const make = (name, className) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    return element;
  };
  const svg = (name) => document.createElementNS('http://www.w3.org/2000/svg', name);
  // Writing the same text again would still cost a layout.
  const setText = (element, text) => {
    if (element.shown !== text) {
      element.shown = text;
      element.textContent = text;
    }
  };
  const setAttribute = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };

  // ---- The model -------------------------------------------------------------------------------

  const devices = new Map();
  let overview = null; // The newest frame, without its devices.
  let changedAt = 0; // When the newest state arrived, by this clock.
  let clockOffset = -Infinity; // The server's clock minus this one.
  const rates = [];

  const serverNow = () => Date.now() + (Number.isFinite(clockOffset) ? clockOffset : 0);

  function takeFrame(frame) {
    // A delayed frame makes it smaller, so the maximum is closest.
    clockOffset = Math.max(clockOffset, frame.now - Date.now());
    if (frame.full) {
      const kept = new Set(frame.devices.map((device) => device.device));
      for (const name of devices.keys()) if (!kept.has(name)) devices.delete(name);
    }
    const another = overview && overview.epoch !== frame.epoch;
    if (another) devices.clear();
    for (const name of frame.removed ?? []) devices.delete(name);
    for (const device of frame.devices) takeDevice(device);
    if (!overview || frame.seq !== overview.seq || another) changedAt = Date.now();
    overview = frame;
    overview.devices = null;
    listIsOld ||= frame.full || devices.size !== order.length + hiddenByFilter;
    draw();
  }

  function takeDevice(news) {
    let device = devices.get(news.device);
    if (!device) {
      device = { name: news.device, count: 0, at: 0, interval: 0, fields: new Map(), version: 0 };
      devices.set(news.device, device);
      listIsOld = true;
    }
    const messages = news.count - device.count;
    const passed = news.latest.at - device.at;
    if (device.at && messages > 0 && passed > 0) {
      const interval = passed / messages;
      device.interval = device.interval ? device.interval * 0.8 + interval * 0.2 : interval;
    }
    if (messages !== 0 || passed !== 0) {
      device.latest = news.latest;
      takeFields(device);
    }
    device.count = news.count;
    device.rate = news.rate;
    device.at = news.latest.at;
    device.version += 1;
  }

  function takeFields(device) {
    const { payload, encoding } = device.latest;
    const seen = new Set();
    const take = (key, value) => {
      if (seen.size >= MOST_FIELDS) return;
      seen.add(key);
      let field = device.fields.get(key);
      if (!field) device.fields.set(key, (field = { history: [] }));
      field.value = value;
      if (typeof value === 'number') {
        field.history.push(value);
        if (field.history.length > HISTORY) field.history.shift();
      }
    };
    if (encoding === 'json') {
      if (payload !== null && typeof payload === 'object') {
        for (const key of firstKeys(payload)) {
          const value = payload[key];
          if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
            for (const inner of firstKeys(value)) take(`${key}.${inner}`, plain(value[inner]));
          } else {
            take(Array.isArray(payload) ? `[${key}]` : key, plain(value));
          }
        }
      } else {
        take('value', plain(payload));
      }
    } else if (encoding === 'text') {
      take('text', cut(payload, 300));
    } else {
      take('bytes', Math.floor((payload.length * 3) / 4) - (payload.match(/=*$/)?.[0].length ?? 0));
    }
    for (const key of device.fields.keys()) if (!seen.has(key)) device.fields.delete(key);
  }

  function firstKeys(object) {
    const keys = [];
    for (const key in object) {
      if (keys.push(key) >= MOST_FIELDS) break;
    }
    return keys;
  }

  function plain(value) {
    if (typeof value === 'string') return cut(value, 300);
    if (Array.isArray(value)) return `[${value.length}]`;
    if (value !== null && typeof value === 'object') return '{…}';
    return value;
  }

  // 'live', 'late' or 'silent', by the device's own interval.
  const activity = (device, now) => {
    const age = now - device.at;
    const interval = device.interval || 60_000;
    if (age > Math.max(12 * interval, 30_000)) return 'silent';
    return age > Math.max(4 * interval, 8_000) ? 'late' : 'live';
  };

  // ---- Text ------------------------------------------------------------------------------------

  const whole = new Intl.NumberFormat('en');
  const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
  const cut = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);

  function number(value) {
    if (Number.isInteger(value) && Math.abs(value) < 1e15) return whole.format(value);
    const size = Math.abs(value);
    if (size >= 1e9 || size < 1e-3) return value.toPrecision(4);
    return String(Math.round(value * 1000) / 1000);
  }

  function perSecond(rate) {
    if (!rate) return '0';
    if (rate >= 100) return whole.format(Math.round(rate));
    return rate >= 10 ? rate.toFixed(1) : rate.toFixed(2);
  }

  function age(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    if (seconds < 2) return 'just now';
    if (seconds < 60) return `${seconds} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
    return `${whole.format(Math.floor(seconds / 86_400))} d ago`;
  }

  // Indented JSON, cut at a size and a depth.
  function layOut(value) {
    const parts = [];
    let room = MOST_TEXT;
    const put = (text) => {
      if (room > 0) parts.push(text.length > room ? `${text.slice(0, room)}…` : text);
      room -= text.length;
    };
    const walk = (value, indent, depth) => {
      if (value === null || typeof value !== 'object') {
        put(typeof value === 'string' && value.length > room ? JSON.stringify(value.slice(0, Math.max(room, 0) + 1)) : JSON.stringify(value));
        return;
      }
      const isList = Array.isArray(value);
      const [open, close] = isList ? '[]' : '{}';
      if (depth >= MOST_DEPTH) return put(`${open}…${close}`);
      let first = true;
      for (const key in value) {
        if (room <= 0) break;
        put(`${first ? open : ','}\n${indent}  `);
        first = false;
        if (!isList) put(`${JSON.stringify(key)}: `);
        walk(value[key], `${indent}  `, depth + 1);
      }
      put(first ? open + close : `\n${indent}${close}`);
    };
    walk(value, '', 0);
    return parts.join('');
  }

  function hex(base64) {
    let bytes;
    try {
      bytes = atob(base64.slice(0, Math.ceil(MOST_BYTES / 3) * 4));
    } catch {
      return base64.slice(0, MOST_TEXT);
    }
    const lines = [];
    for (let start = 0; start < Math.min(bytes.length, MOST_BYTES); start += 8) {
      const line = [...bytes.slice(start, start + 8)];
      const codes = line.map((byte) => byte.charCodeAt(0).toString(16).padStart(2, '0')).join(' ');
      const letters = line.map((byte) => (byte >= ' ' && byte <= '~' ? byte : '·')).join('');
      lines.push(`${start.toString(16).padStart(4, '0')}  ${codes.padEnd(23)}  ${letters}`);
    }
    if (base64.length > Math.ceil(MOST_BYTES / 3) * 4) lines.push('…');
    return lines.join('\n');
  }

  function payloadText({ payload, encoding }) {
    if (encoding === 'json') return layOut(payload);
    if (encoding === 'base64') return payload === '' ? '(empty)' : hex(payload);
    if (payload.length <= MOST_TEXT) return payload === '' ? '(empty)' : payload;
    return `${payload.slice(0, MOST_TEXT)}…\n(${whole.format(payload.length - MOST_TEXT)} more characters)`;
  }

  function rawText({ payload, encoding }) {
    if (encoding !== 'json') return payload;
    try {
      return JSON.stringify(payload);
    } catch {
      return layOut(payload); // Nested too deep for the engine.
    }
  }

  // ---- Sparklines ------------------------------------------------------------------------------

  function makeSpark() {
    const element = svg('svg');
    element.setAttribute('class', 'spark');
    element.setAttribute('viewBox', '0 0 62 20');
    element.setAttribute('preserveAspectRatio', 'none');
    element.setAttribute('aria-hidden', 'true');
    element.append(svg('polyline'));
    return element;
  }

  function drawSpark(element, history, [width, height], floor) {
    let low = floor ?? Infinity;
    let high = -Infinity;
    for (const value of history) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const span = high - low;
    const step = width / Math.max(history.length - 1, 1);
    const points = [];
    history.forEach((value, index) => {
      const share = span > 0 && Number.isFinite(span) ? (value - low) / span : floor === undefined ? 0.5 : 0;
      points.push(`${(index * step).toFixed(1)},${(height - 2 - share * (height - 4)).toFixed(1)}`);
    });
    const text = history.length > 1 ? points.join(' ') : '';
    setAttribute(element.querySelector('polyline'), 'points', text);
    const area = element.querySelector('.area');
    if (area) setAttribute(area, 'd', text && `M0,${height}L${text.replaceAll(' ', 'L')}L${width},${height}Z`);
  }

  // ---- The table -------------------------------------------------------------------------------

  const table = $('devices');
  const body = table.tBodies[0];
  const above = spacer();
  const below = spacer();
  body.append(above, below);
  const rows = new Map();
  let shownFields = 0;
  let order = [];
  let hiddenByFilter = 0;
  let listIsOld = true;
  let rowHeight = 46;
  let sort = { by: 'name', down: false };
  let filter = '';
  const pinned = new Set(readPins());

  function readPins() {
    try {
      const pins = JSON.parse(localStorage.getItem('pinned') ?? '[]');
      return Array.isArray(pins) ? pins : [];
    } catch {
      return [];
    }
  }

  function spacer() {
    const row = make('tr', 'spacer');
    row.setAttribute('aria-hidden', 'true');
    row.hidden = true;
    const cell = make('td');
    cell.colSpan = 6;
    row.append(cell);
    return row;
  }

  const collator = new Intl.Collator(undefined, { numeric: true });
  const orders = {
    name: (a, b) => collator.compare(a.name, b.name),
    count: (a, b) => a.count - b.count,
    rate: (a, b) => a.rate - b.rate,
    age: (a, b) => b.at - a.at,
  };

  function makeList() {
    listIsOld = false;
    const wanted = filter.toLowerCase();
    const list = [...devices.values()].filter((device) => !wanted || device.name.toLowerCase().includes(wanted));
    hiddenByFilter = devices.size - list.length;
    const compare = orders[sort.by];
    const sign = sort.down ? -1 : 1;
    list.sort((a, b) => pinned.has(b.name) - pinned.has(a.name) || sign * compare(a, b) || collator.compare(a.name, b.name));
    order = list;
    table.setAttribute('aria-rowcount', String(list.length + 1));
  }

  function makeRow(device) {
    const row = make('tr');
    row.setAttribute('role', 'row');
    row.dataset.device = device.name;
    const cells = {};
    for (const name of ['pin', 'name', 'values', 'count', 'rate', 'age']) {
      const cell = make('td', name + (['count', 'rate', 'age'].includes(name) ? ' number' : ''));
      cell.setAttribute('role', 'cell');
      cell.dataset.field = name;
      cells[name] = cell;
      row.append(cell);
    }
    const pin = make('button');
    pin.type = 'button';
    pin.dataset.action = 'pin';
    const open = make('button');
    open.type = 'button';
    open.dataset.action = 'open';
    const name = make('bdi');
    name.textContent = cut(device.name, 200);
    open.append(name);
    open.title = cut(device.name, 1000);
    const values = make('div');
    const seen = make('span');
    cells.pin.append(pin);
    cells.name.append(open);
    cells.values.append(values);
    cells.age.append(seen);
    return { row, cells, pin, open, values, seen, fields: new Map(), version: -1, drawn: 0 };
  }

  function drawRow(view, device, index, now) {
    setAttribute(view.row, 'aria-rowindex', String(index + 2));
    setText(view.seen, age(now - device.at));
    const state = activity(device, now);
    if (view.row.dataset.activity !== state) view.row.dataset.activity = state;
    const isPinned = pinned.has(device.name);
    if (view.isPinned !== isPinned) {
      view.isPinned = isPinned;
      view.pin.setAttribute('aria-pressed', String(isPinned));
      view.pin.setAttribute('aria-label', `Pin ${cut(device.name, 80)}`);
      view.pin.textContent = isPinned ? '★' : '☆';
    }
    if (view.version === device.version) return;
    view.version = device.version;
    setText(view.cells.count, whole.format(device.count));
    setText(view.cells.rate, perSecond(device.rate));
    // At most four times a second.
    const sparks = now - view.drawn > 250;
    if (sparks) view.drawn = now;
    else later(260);
    if (!sparks) view.version = -1;
    drawFields(view.values, view.fields, device, shownFields, sparks ? [62, 20] : null);
  }

  function drawFields(parent, views, device, most, size) {
    let shown = 0;
    for (const [key, field] of device.fields) {
      if (shown === most) break;
      shown += 1;
      let view = views.get(key);
      const isNumber = typeof field.value === 'number';
      if (view && view.isNumber !== isNumber) {
        view.element.remove();
        view = null;
      }
      if (!view) {
        const element = make('div', isNumber ? 'field' : 'field text');
        const label = make('span', 'key');
        const value = make('span', 'value');
        label.dir = value.dir = 'auto';
        label.textContent = cut(key, 60);
        element.append(label, value);
        view = { element, value, isNumber, spark: null };
        if (isNumber) element.append((view.spark = makeSpark()));
        views.set(key, view);
        parent.append(element);
      }
      setText(view.value, isNumber ? number(field.value) : String(field.value));
      if (size && view.spark) drawSpark(view.spark, field.history, [62, 20]);
    }
    for (const [key, view] of views) {
      if (key !== moreKey && !isAmongFirst(device.fields, key, most)) {
        view.element.remove();
        views.delete(key);
      }
    }
    const rest = device.fields.size - shown;
    let more = views.get(moreKey);
    if (rest > 0) {
      if (!more) views.set(moreKey, (more = { element: make('span', 'more') }));
      setText(more.element, `+${rest}`);
      if (parent.lastChild !== more.element) parent.append(more.element);
    } else if (more) {
      more.element.remove();
      views.delete(moreKey);
    }
  }

  const moreKey = Symbol('more');
  function isAmongFirst(fields, key, most) {
    let index = 0;
    for (const other of fields.keys()) {
      if (index++ === most) return false;
      if (other === key) return true;
    }
    return false;
  }

  function drawTable(now) {
    if (listIsOld || (sort.by !== 'name' && now - lastSorted > 1000)) {
      makeList();
      lastSorted = now;
    }
    const isEmpty = devices.size === 0 && overview !== null && !overview.unreachable_since;
    $('empty').hidden = !isEmpty;
    table.hidden = devices.size === 0;
    $('no-match').hidden = !(devices.size > 0 && order.length === 0);
    setText($('device-count'), whole.format(devices.size));
    if (table.hidden) return;

    const top = body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / rowHeight) - SPARE_ROWS);
    const last = Math.min(order.length, Math.ceil((innerHeight - top) / rowHeight) + SPARE_ROWS);
    const wanted = new Set();
    for (let index = first; index < last; index += 1) wanted.add(order[index].name);
    // The row with the focus stays.
    const focused = document.activeElement?.closest?.('tr[data-device]')?.dataset.device;
    for (const [name, view] of rows) {
      if (!wanted.has(name) && !(name === focused && devices.has(name))) {
        view.row.remove();
        rows.delete(name);
      }
    }
    let before = above;
    for (let index = first; index < last; index += 1) {
      const device = order[index];
      let view = rows.get(device.name);
      if (!view) rows.set(device.name, (view = makeRow(device)));
      drawRow(view, device, index, now);
      if (before.nextSibling !== view.row) before.after(view.row);
      before = view.row;
    }
    setSpace(above, first * rowHeight);
    setSpace(below, Math.max(0, order.length - last) * rowHeight);
  }
  let lastSorted = 0;

  function setSpace(row, height) {
    if (row.height === height) return;
    row.height = height;
    row.hidden = height === 0;
    row.firstChild.style.height = `${height}px`;
  }

  // ---- Header and drawer -----------------------------------------------------------------------

  let shownMessage = null;

  function drawHeader(now) {
    if (!overview) return;
    setText($('message-count'), whole.format(overview.count));
    setText($('device-total'), devices.size === 1 ? 'from 1 device' : `from ${whole.format(devices.size)} devices`);
    setText($('message-rate'), perSecond(overview.rate));
    const { latest } = overview;
    if (latest) {
      setText($('last-age'), age(now - latest.at));
      setText($('last-update'), `at ${clock.format(latest.at - (Number.isFinite(clockOffset) ? clockOffset : 0))}`);
    } else {
      setText($('last-age'), '–');
      setText($('last-update'), 'no messages yet');
    }
    if (latest !== shownMessage && !(latest && now - lastLaidOut < 100)) {
      shownMessage = latest;
      lastLaidOut = now;
      setText($('last-from'), latest ? `from ${cut(latest.device, 60)}` : '');
      setText($('last-message'), latest ? payloadText(latest) : 'no messages yet');
    } else if (latest !== shownMessage) {
      later(100);
    }
  }
  let lastLaidOut = 0;

  function tick() {
    const now = serverNow();
    rates.push(overview && connection === 'live' ? overview.rate : 0);
    if (rates.length > RATE_HISTORY) rates.shift();
    drawSpark($('rate-history'), rates, [120, 28], 0);
    const counts = { silent: 0, late: 0, live: 0 };
    for (const device of devices.values()) counts[activity(device, now)] += 1;
    const parts = ['silent', 'late'].filter((state) => counts[state] > 0);
    setText($('inactive-count'), parts.map((state) => `${whole.format(counts[state])} ${state}`).join(' · '));
    draw();
  }

  const drawer = $('drawer');
  let opened = null; // { name, fields, version }

  function openDrawer(name) {
    opened = { name, fields: new Map(), version: -1 };
    $('drawer-fields').replaceChildren();
    $('drawer-title').firstChild.textContent = cut(name, 2000);
    if (!drawer.open) drawer.showModal();
    remember();
    draw();
  }

  function drawDrawer(now) {
    const device = opened && devices.get(opened.name);
    if (!device) return;
    const facts = [
      ['Messages', whole.format(device.count)],
      ['Per second', perSecond(device.rate)],
      ['Last seen', age(now - device.at)],
    ];
    const list = $('drawer-facts');
    facts.forEach(([title, text], index) => {
      let fact = list.children[index];
      if (!fact) {
        fact = make('div');
        const term = make('dt');
        term.textContent = title;
        fact.append(term, make('dd'));
        list.append(fact);
      }
      setText(fact.lastChild, text);
    });
    if (opened.version === device.version) return;
    opened.version = device.version;
    drawFields($('drawer-fields'), opened.fields, device, MOST_FIELDS, [62, 20]);
    setText($('drawer-kind'), { json: 'JSON', text: 'text', base64: 'binary' }[device.latest.encoding]);
    setText($('drawer-message'), payloadText(device.latest));
  }

  // ---- Drawing, at most once per animation frame ------------------------------------------------

  let isAsked = false;
  let timer = 0;

  function draw() {
    if (isAsked || document.hidden) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      const now = serverNow();
      drawHeader(now);
      drawTable(now);
      if (drawer.open) drawDrawer(now);
    });
  }

  function later(milliseconds) {
    timer ||= setTimeout(() => {
      timer = 0;
      draw();
    }, milliseconds);
  }

  // ---- The connection --------------------------------------------------------------------------

  let socket = null;
  let connection = 'connecting';
  let attempt = 0;
  let retryAt = 0;
  let retryTimer = 0;
  let heardAt = 0;
  let hiddenTimer = 0;

  const words = {
    live: 'Live',
    connecting: 'Connecting',
    reconnecting: 'Reconnecting',
    unreachable: 'Not updating',
    stale: 'Stale',
  };

  function setConnection(state) {
    connection = state;
    const element = $('connection-state');
    if (element.dataset.state !== state) {
      element.dataset.state = state;
      // Screen readers announce a change of state, not each second of a countdown.
      setText($('connection-text'), words[state]);
    }
    let detail = '';
    if (state === 'reconnecting') {
      const seconds = Math.ceil((retryAt - Date.now()) / 1000);
      detail = seconds > 0 ? `in ${seconds} s` : '…';
    } else if (state === 'unreachable') {
      detail = `since ${clock.format(overview.unreachable_since - clockOffset)} (cache unreachable)`;
    }
    setText($('connection-detail'), detail);
    $('retry').hidden = state !== 'reconnecting';
    document.body.classList.toggle('stale', state !== 'live' && overview !== null);
  }

  function connect() {
    clearTimeout(retryTimer);
    retryTimer = 0;
    if (socket) return;
    const address = new URL('ws', location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    address.hash = address.search = '';
    const mine = (socket = new WebSocket(address));
    heardAt = Date.now();
    mine.onmessage = (event) => {
      if (socket !== mine) return;
      heardAt = Date.now();
      let frame;
      try {
        frame = JSON.parse(event.data);
      } catch (error) {
        console.error('invalid frame', error);
        mine.close();
        return;
      }
      if (frame.full && attempt) clockOffset = -Infinity;
      attempt = 0;
      takeFrame(frame);
      setConnection(frame.unreachable_since ? 'unreachable' : 'live');
    };
    mine.onclose = (event) => {
      if (socket !== mine) return;
      socket = null;
      // A server that shuts down is replaced by another one: reconnect at once.
      reconnect(event.code === 1001 && attempt === 0);
    };
  }

  function reconnect(atOnce) {
    const longest = Math.min(BACKOFF[0] * 2 ** attempt, BACKOFF[1]);
    const wait = atOnce ? Math.random() * 300 : longest * (0.5 + Math.random() / 2);
    attempt += 1;
    retryAt = Date.now() + wait;
    retryTimer = setTimeout(connect, wait);
    setConnection('reconnecting');
  }

  function drop() {
    const old = socket;
    socket = null;
    old?.close();
  }

  setInterval(() => {
    if (document.hidden) return;
    if (socket && Date.now() - heardAt > WATCHDOG) {
      setConnection('stale');
      drop();
      connect();
    } else if (connection === 'reconnecting') {
      setConnection('reconnecting');
    }
    tick();
  }, 1000);

  document.addEventListener('visibilitychange', () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) {
      hiddenTimer = setTimeout(() => {
        clearTimeout(retryTimer);
        drop();
        setConnection('connecting');
      }, HIDDEN_FOR);
    } else {
      connect();
      draw();
    }
  });
  addEventListener('online', connect);
  addEventListener('pagehide', drop);
  addEventListener('pageshow', (event) => event.persisted && connect());
  $('retry').addEventListener('click', connect);

  // ---- User input ------------------------------------------------------------------------------

  function setSort(by, down) {
    sort = { by, down };
    for (const heading of table.querySelectorAll('th[data-sort]')) {
      if (heading.dataset.sort === by) heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else heading.removeAttribute('aria-sort');
    }
    listIsOld = true;
    draw();
  }

  table.tHead.addEventListener('click', (event) => {
    const by = event.target.closest('button')?.parentNode.dataset.sort;
    if (!by) return;
    // Numbers are sorted from the highest first.
    setSort(by, sort.by === by ? !sort.down : by === 'count' || by === 'rate');
    remember();
  });

  body.addEventListener('click', (event) => {
    const name = event.target.closest('tr')?.dataset.device;
    if (name === undefined) return;
    if (event.target.closest('[data-action="pin"]')) {
      if (!pinned.delete(name)) pinned.add(name);
      try {
        localStorage.setItem('pinned', JSON.stringify([...pinned]));
      } catch {
        // Without storage, pins last as long as the page.
      }
      listIsOld = true;
      draw();
    } else if (!String(getSelection())) {
      openDrawer(name);
    }
  });

  body.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const name = event.target.closest('tr')?.dataset.device;
    if (!step || name === undefined) return;
    const next = order[order.findIndex((device) => device.name === name) + step];
    const button = next && rows.get(next.name)?.open;
    if (!button) return;
    event.preventDefault();
    button.focus();
    button.scrollIntoView({ block: 'nearest' });
  });

  $('filter').addEventListener('input', (event) => {
    filter = event.target.value.trim();
    listIsOld = true;
    remember();
    draw();
    announce();
  });

  let announceTimer = 0;
  function announce() {
    clearTimeout(announceTimer);
    announceTimer = setTimeout(() => setText($('announce'), `${order.length} devices shown`), 600);
  }

  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !drawer.open && !event.ctrlKey && !event.metaKey && !event.target.matches('input')) {
      event.preventDefault();
      $('filter').focus();
    }
  });

  $('drawer-close').addEventListener('click', () => drawer.close());
  drawer.addEventListener('click', (event) => event.target === drawer && drawer.close());
  drawer.addEventListener('close', () => {
    const name = opened?.name;
    opened = null;
    remember();
    // The browser restores the focus, unless the element is gone.
    if (document.activeElement === document.body) rows.get(name)?.open.focus({ preventScroll: true });
  });

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('.copy');
    if (!button) return;
    const device = opened && devices.get(opened.name);
    const text = button.id === 'drawer-copy' ? device && rawText(device.latest) : button.previousElementSibling.textContent;
    let done = 'Copied';
    try {
      await navigator.clipboard.writeText(text ?? '');
    } catch {
      // Browsers allow pages the clipboard only over HTTPS.
      const range = document.createRange();
      range.selectNodeContents(button.id === 'drawer-copy' ? $('drawer-message') : button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      done = 'Selected';
    }
    button.textContent = done;
    setText($('announce'), done);
    setTimeout(() => {
      button.textContent = 'Copy';
      setText($('announce'), '');
    }, 1500);
  });

  // The view is in the address, so that it can be shared.
  function remember() {
    const parameters = new URLSearchParams();
    if (sort.by !== 'name' || sort.down) parameters.set('sort', (sort.down ? '-' : '') + sort.by);
    if (filter) parameters.set('filter', filter);
    if (opened) parameters.set('device', opened.name);
    const hash = String(parameters);
    history.replaceState(null, '', hash ? `#${hash}` : location.pathname);
  }

  function recall() {
    const parameters = new URLSearchParams(location.hash.slice(1));
    filter = $('filter').value = parameters.get('filter') ?? '';
    const by = parameters.get('sort') ?? 'name';
    const name = by.replace(/^-/, '');
    if (Object.hasOwn(orders, name)) setSort(name, by.startsWith('-'));
    const device = parameters.get('device');
    if (device !== null) openDrawer(device);
  }

  function measure() {
    rowHeight = parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--row')) || 46;
    const fields = innerWidth < SHOWN_FIELDS.from ? SHOWN_FIELDS.narrow : SHOWN_FIELDS.wide;
    if (fields !== shownFields) {
      shownFields = fields;
      for (const view of rows.values()) view.version = -1;
    }
    draw();
  }
  addEventListener('resize', measure);
  addEventListener('scroll', draw, { passive: true });
  measure();
  recall();
  connect();
})();
