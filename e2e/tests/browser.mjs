// Run by browser.rs in the folder of the browser's packages: publishes to a running pipeline and watches
// the page.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { chromium } = createRequire(join(process.cwd(), 'package.json'))('playwright-core');
const { BROKER, CHROMIUM, DASHBOARD, PUBLISHER } = process.env;

const publish = (device, message) =>
  execFileSync(PUBLISHER, ['--address', BROKER, 'message', '--topic', `topic/sensors/${device}`, '--', message]);

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
try {
  const page = await browser.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.goto(DASHBOARD);
  await page.evaluate(() => (window.loadedOnce = true));

  const shows = (selector, expected) =>
    page.waitForFunction(
      ([selector, expected]) => document.querySelector(selector)?.textContent.includes(expected),
      [selector, expected],
      { timeout: 20_000 },
    );
  const row = (device, field) => `table#devices tbody tr[data-device="${device}"] [data-field=${field}]`;

  publish('kitchen', '{"temperature": 21.5}');
  await shows('#message-count', '1');
  await shows('#last-message', '21.5');
  await shows(row('kitchen', 'count'), '1');

  publish('kitchen', '{"temperature": 22.25}');
  publish('hall', 'it is warm');
  await shows('#message-count', '3');
  await shows(row('kitchen', 'count'), '2');
  await shows(row('hall', 'count'), '1');
  await shows('#last-message', 'it is warm');

  assert.equal(await page.evaluate(() => window.loadedOnce), true, 'the page was loaded again');
  assert.deepEqual(complaints, []);
} finally {
  await browser.close();
}
