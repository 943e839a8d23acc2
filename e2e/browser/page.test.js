import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PICTURES, isIn, stage } from './stage.js';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

async function check(page) {
  // By the debugger, past the page's own policy.
  const { readFileSync } = await import('node:fs');
  await page.evaluate(readFileSync(AXE, 'utf8'));
  const { violations } = await page.evaluate(() => axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join('\n')}`);
  assert.deepEqual(found, []);
}

const count = (page, device) => page.locator(`table#devices tbody tr[data-device="${device}"] td[data-field=count]`);

async function text(locator, expected) {
  const end = Date.now() + 8000;
  let got;
  do {
    got = await locator.textContent({ timeout: 8000 }).catch((error) => String(error));
    if (got === expected) return;
    await sleep(20);
  } while (Date.now() < end);
  assert.equal(got, expected);
}

const fleet = (from, to, old = () => 0) =>
  Array.from({ length: to - from }, (_, n) => [
    `sensor-${String(from + n).padStart(4, '0')}`,
    { temperature: Math.round((20 + 4 * Math.sin(Date.now() / 3000 + n)) * 10) / 10, humidity: 40 + ((Date.now() / 500 + n) % 9 | 0), battery: 97 - (n % 40) },
    'json',
    old(n),
  ]);

test('an empty page shows how to publish, and the first message appears without a reload', async (t) => {
  const { cache, page, complaints } = await stage(t);
  const tab = await page();
  await isIn(tab, 'live');
  await tab.waitForSelector('#empty:not([hidden])');
  const commands = await tab.locator('#empty code').allTextContents();
  assert.deepEqual(commands, [
    `cargo xtask publish '{"temperature": 21.5}'`,
    `mosquitto_pub -h 127.0.0.1 -p 1883 -t topic/sensors/kitchen -m '{"temperature": 21.5}'`,
    `aws iot-data publish --topic topic/sensors/kitchen --cli-binary-format raw-in-base64-out --payload '{"temperature": 21.5}'`,
  ]);
  await check(tab);
  await tab.screenshot({ path: join(PICTURES, 'empty.png') });
  await tab.evaluate(() => (window.loadedOnce = true));
  await cache.take(['kitchen', { temperature: 21.5 }]);
  await text(tab.locator('#message-count'), '1');
  await text(count(tab, 'kitchen'), '1');
  assert.match(await tab.locator('#last-message').textContent(), /"temperature": 21\.5/);
  assert.match(await tab.locator('#last-update').textContent(), /\d\d:\d\d:\d\d/);
  await cache.take(['kitchen', { temperature: 22 }], ['hall', 'it is warm', 'text']);
  await text(tab.locator('#message-count'), '3');
  await text(count(tab, 'kitchen'), '2');
  await text(tab.locator('#last-message'), 'it is warm');
  assert.equal(await tab.evaluate(() => window.loadedOnce), true);
  assert.deepEqual(complaints, []);
});

test('the page comes back by itself when the server was killed and started again', async (t) => {
  const { cache, webui, page } = await stage(t);
  await cache.take(['kitchen', { temperature: 21.5 }]);
  const tab = await page();
  await isIn(tab, 'live');
  await webui.stop('SIGKILL');
  await isIn(tab, 'reconnecting');
  assert.match(await tab.locator('#connection-state').textContent(), /Reconnecting/);
  await tab.screenshot({ path: join(PICTURES, 'reconnecting.png') });
  await cache.take(['kitchen', { temperature: 23 }], ['hall', 1]);
  await webui.start();
  await isIn(tab, 'live');
  await text(tab.locator('#message-count'), '3');
  await text(count(tab, 'hall'), '1');
});

test('a cache that is away is said, with the last values kept, and its return too', async (t) => {
  const { cache, page, complaints } = await stage(t);
  await cache.take(['kitchen', { temperature: 21.5 }]);
  const tab = await page();
  await isIn(tab, 'live');
  await cache.stop();
  await isIn(tab, 'unreachable');
  assert.match(await tab.locator('#connection-state').textContent(), /Not updating\s+since \d\d:\d\d:\d\d \(cache unreachable\)/);
  await text(count(tab, 'kitchen'), '1');
  await check(tab);
  await tab.screenshot({ path: join(PICTURES, 'unreachable.png') });
  await cache.start();
  cache.epoch = 'second';
  cache.devices.clear();
  cache.count = cache.seq = 0;
  await cache.take(['attic', { temperature: 30 }]);
  await isIn(tab, 'live');
  await text(count(tab, 'attic'), '1');
  await text(tab.locator('#message-count'), '1');
  assert.equal(await count(tab, 'kitchen').count(), 0);
  assert.deepEqual(complaints, []);
});

test('hostile payloads are shown as text and break nothing', async (t) => {
  const { cache, page, complaints } = await stage(t);
  const tab = await page();
  await isIn(tab, 'live');
  const script = '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">';
  const deep = `${'['.repeat(20_000)}1${']'.repeat(20_000)}`;
  await cache.take(
    ['<b>bold</b>', { [script]: script, html: script }],
    ['long', { text: 'x'.repeat(100_000), value: 1 }],
    ['plain', 'y'.repeat(100_000), 'text'],
    ['deep', deep],
    ['wide', Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`field${n}`, n]))],
    ['proto', '{"__proto__":{"a":1},"constructor":2,"toString":"x","hasOwnProperty":3}'],
    ['🌡️ 客廳', { '🌡️': 21, text: '👩‍🔬 zalgo z̶̢͚a̴l̷g̸o' }],
    ['مطبخ \u202Egnirts', { 'درجة': 'حرارة \u202E reversed', value: 3 }],
    ['huge', '{"value":1e308,"less":-1e308,"tiny":5e-324,"big":123456789012345678901234567890}'],
    ['NaN', 'NaN', 'text'],
    ['empty', '', 'text'],
    ['binary', Buffer.from([0, 1, 2, 255, 60, 98, 62]).toString('base64'), 'base64'],
  );
  await text(tab.locator('#message-count'), '12');
  assert.match(await tab.locator('#last-message').textContent(), /00 01 02 ff 3c 62 3e/);
  for (const name of cache.devices.keys()) {
    const row = tab.locator('#devices tbody tr[data-device]', { has: tab.getByRole('button', { name, exact: true }) });
    await row.locator('[data-action=open]').click();
    await tab.waitForSelector('#drawer[open]');
    await tab.waitForFunction(() => document.querySelector('#drawer-message').textContent !== '');
    assert.ok((await tab.locator('#drawer-message').textContent()).length < 21_000);
    assert.ok(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} widens the page`);
    if (name === '<b>bold</b>') assert.match(await tab.locator('#drawer-message').textContent(), /<script>document\.title/);
    await tab.keyboard.press('Escape');
    await tab.waitForSelector('#drawer:not([open])', { state: 'attached' });
  }
  assert.equal(await tab.title(), 'Sensor data');
  assert.equal(await tab.locator('#devices b, #devices img, main script').count(), 0);
  await check(tab);
  await tab.screenshot({ path: join(PICTURES, 'hostile.png') });
  await tab.setViewportSize({ width: 390, height: 844 });
  assert.ok(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the phone scrolls sideways');
  await tab.screenshot({ path: join(PICTURES, 'hostile-phone.png') });
  assert.deepEqual(complaints, []);
});

test('everything is reached with the keyboard', async (t) => {
  const { cache, page } = await stage(t);
  await cache.take(...fleet(1, 5));
  const tab = await page();
  await isIn(tab, 'live');
  await tab.waitForSelector('tr[data-device="sensor-0001"]');
  await tab.keyboard.press('/');
  await tab.keyboard.type('0002');
  await tab.waitForFunction(() => document.querySelectorAll('#devices tbody tr[data-device]').length === 1);
  assert.match(tab.url(), /#filter=0002/);
  await tab.keyboard.press('Control+A');
  await tab.keyboard.press('Delete');
  await tab.waitForFunction(() => document.querySelectorAll('#devices tbody tr[data-device]').length === 4);
  await tab.locator('tr[data-device="sensor-0001"] [data-action=open]').focus();
  await tab.keyboard.press('ArrowDown');
  await tab.keyboard.press('Enter');
  await tab.waitForSelector('#drawer[open]');
  assert.equal(await tab.locator('#drawer-title').textContent(), 'sensor-0002');
  await check(tab);
  await tab.keyboard.press('Escape');
  assert.equal(await tab.evaluate(() => document.activeElement.closest('tr')?.dataset.device), 'sensor-0002');
  await tab.keyboard.press('Shift+Tab');
  await tab.keyboard.press('Space');
  await tab.waitForFunction(() => document.querySelector('#devices tbody tr[data-device]').dataset.device === 'sensor-0002');
  await tab.locator('th[data-sort=count] button').focus();
  await tab.keyboard.press('Enter');
  assert.equal(await tab.locator('th[data-sort=count]').getAttribute('aria-sort'), 'descending');
});

test('pictures of light, dark and phone have no violation', async (t) => {
  const { cache, page, complaints } = await stage(t);
  const names = ['attic', 'basement', 'bathroom', 'garage', 'garden', 'greenhouse', 'hall', 'kitchen', 'living room', 'office', 'workshop'];
  const tabs = [
    ['light', await page()],
    ['dark', await page({ colorScheme: 'dark' })],
    ['phone', await page({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 })],
    ['phone-dark', await page({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: 'dark' })],
  ];
  for (let round = 0; round < 45; round += 1) {
    const messages = names.map((name, n) => [
      name,
      { temperature: Math.round((19 + n + 2 * Math.sin(round / 5 + n) + Math.random()) * 10) / 10, humidity: Math.round(44 + 6 * Math.cos(round / 7 + n)), battery: 98 - n },
    ]);
    // Two of them fell silent, a while ago and a long while ago.
    if (round < 2) messages.push(['cellar', { temperature: 11.5, humidity: 71 }, 'json', 45_000 - 2_000 * round], ['balcony', { temperature: 4.5 }, 'json', 7_200_000 - 1000 * round]);
    if (round === 44) messages.unshift(['doorbell', 'ding dong', 'text'], ['meter', 'AAECA/8Q', 'base64']);
    await cache.take(...messages);
    await sleep(120);
  }
  for (const [name, tab] of tabs) {
    await tab.waitForFunction(() => document.querySelector('tr[data-device="balcony"]')?.dataset.activity === 'silent');
    await sleep(400);
    assert.match(await tab.locator('#inactive-count').textContent(), /^2 silent( · \d+ late)?$/);
    await check(tab);
    await tab.screenshot({ path: join(PICTURES, `${name}.png`) });
  }
  await tabs[0][1].locator('tr[data-device="kitchen"] [data-action=open]').click();
  await tabs[0][1].screenshot({ path: join(PICTURES, 'drawer.png') });
  assert.deepEqual(complaints, []);
});

test('at every width a value keeps its name and nothing is written over anything', async (t) => {
  const { cache, page } = await stage(t);
  await cache.take(['kitchen', { at: 1_795_477_022_837, battery: 70.9, humidity: 27, reading: 2, temperature: 13.65 }, 'json', 59 * 60_000]);
  const tab = await page();
  await isIn(tab, 'live');
  await tab.waitForSelector('tr[data-device="kitchen"] .more');
  for (const [width, fields] of [[390, 2], [641, 2], [700, 2], [1021, 2], [1100, 2], [1180, 3], [1440, 3]]) {
    await tab.setViewportSize({ width, height: 800 });
    await tab.waitForFunction((fields) => document.querySelectorAll('tr[data-device="kitchen"] .field').length === fields, fields);
    const faults = await tab.evaluate(() => {
      const row = document.querySelector('tr[data-device="kitchen"]');
      const isCut = (element) => element.scrollWidth > element.clientWidth;
      const pieces = [...row.querySelectorAll('.key, .value, .more')].map((element) => ({ element, box: element.getBoundingClientRect() }));
      return [
        ...pieces.filter(({ box }) => box.width < 8).map(({ element }) => `${element.textContent} cannot be seen`),
        ...pieces.filter(({ box }, n) => n > 0 && box.left < pieces[n - 1].box.right - 0.5).map(({ element }) => `${element.textContent} covers what is before it`),
        ...[row.querySelector('td.age'), document.querySelector('#last-age')].filter(isCut).map((element) => `${element.textContent} is cut`),
      ];
    });
    assert.deepEqual(faults, [], `${width} px`);
    assert.equal(await tab.locator('tr[data-device="kitchen"] .more').textContent(), `+${5 - fields}`);
  }
});

test('a thousand devices at twenty frames a second take less than 30 % of a core', async (t) => {
  const { cache, page, complaints, cpu } = await stage(t);
  for (let from = 0; from < 1000; from += 250) await cache.take(...fleet(from, from + 250));
  const tab = await page();
  await isIn(tab, 'live');
  await text(tab.locator('#device-count'), '1,000');
  assert.ok((await tab.locator('#devices tbody tr[data-device]').count()) < 100);
  const seconds = await cpu(tab);
  const before = await seconds();
  const start = Date.now();
  // Every device changes once a second.
  let sent = 0;
  while (Date.now() - start < 6000) {
    const from = (sent % 20) * 50;
    await cache.take(...fleet(from, from + 50));
    sent += 1;
    await sleep(Math.max(0, start + sent * 50 - Date.now()));
  }
  const share = ((await seconds()) - before) / ((Date.now() - start) / 1000);
  t.diagnostic(`${(share * 100).toFixed(1)} % of a core at ${(sent / 6).toFixed(1)} batches a second`);
  await tab.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await tab.waitForSelector('tr[data-device="sensor-0999"]');
  await tab.screenshot({ path: join(PICTURES, 'many.png') });
  assert.ok(share < 0.3, `${share}`);
  assert.deepEqual(complaints, []);
});
