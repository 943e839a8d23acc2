// What a test needs around the page: a cache, the web UI and a browser, each its own, all ended with the test.
import { spawn, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const WEBUI = process.env.WEBUI_BIN;
export const PICTURES = process.env.PICTURES ?? join(import.meta.dirname, 'test-results');

function need() {
  if (!WEBUI || !existsSync(WEBUI)) {
    throw new Error('WEBUI_BIN must be the path of the web UI: cargo build -p webui, then WEBUI_BIN=target/debug/webui');
  }
  if (!existsSync(CHROMIUM)) throw new Error(`there is no browser at ${CHROMIUM}: apt-get install chromium, or set CHROMIUM`);
  try {
    execFileSync('redis-server', ['--version']);
  } catch {
    throw new Error('there is no redis-server on the PATH: apt-get install redis-server');
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function stop(child, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

/** Waits until `condition` answers something. */
export async function until(what, condition, limit = 10_000) {
  const end = Date.now() + limit;
  for (;;) {
    const answer = await condition().catch(() => undefined);
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${limit} ms for ${what}`);
    await sleep(20);
  }
}

/** The cache, written to as the function writes. */
class Cache {
  constructor(port, folder) {
    this.port = port;
    this.folder = folder;
    this.count = 0;
    this.seq = 0;
    this.epoch = 'first';
    this.devices = new Map();
  }

  async start() {
    this.server = spawn('redis-server', ['--port', this.port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.folder], { stdio: 'ignore' });
    await until('redis-server', async () => this.command([['PING']]));
  }

  stop() {
    return stop(this.server, 'SIGKILL');
  }

  /** Sends commands as one pipeline and answers what came back. */
  async command(commands) {
    const { connect } = await import('node:net');
    const client = connect(this.port, '127.0.0.1');
    await once(client, 'connect');
    const parts = [];
    for (const words of [...commands, ['QUIT']]) {
      parts.push(`*${words.length}\r\n`);
      for (const word of words) parts.push(`$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
    }
    client.end(parts.join(''));
    let answer = '';
    client.on('data', (data) => (answer += data));
    await once(client, 'close');
    return answer;
  }

  /** Counts messages: [device, payload, encoding, age in milliseconds], in one batch. */
  async take(...messages) {
    const commands = [];
    const changed = new Map();
    let latest;
    for (const [name, payload, encoding = 'json', old = 0] of messages) {
      const device = this.devices.get(name) ?? { device: name, count: 0 };
      device.count += 1;
      // A string as JSON is the text of it, so that a test can write what JavaScript cannot.
      device.text = `{"device":${JSON.stringify(name)},"payload":${typeof payload === 'string' && encoding === 'json' ? payload : JSON.stringify(payload)},"encoding":"${encoding}","at":${Date.now() - old}}`;
      latest = device.text;
      this.devices.set(name, device);
      changed.set(name, device);
      this.count += 1;
    }
    this.seq += 1;
    const entries = [];
    for (const device of changed.values()) {
      entries.push(`{"device":${JSON.stringify(device.device)},"count":${device.count},"latest":${device.text}}`);
      commands.push(['HSET', `sensor:${device.device}`, 'count', device.count, 'latest', device.text]);
      commands.push(['ZADD', 'sensorDevices', Date.now(), device.device]);
    }
    commands.push(['SET', 'sensorEpoch', this.epoch], ['SET', 'sensorSeq', this.seq], ['SET', 'sensorCount', this.count], ['SET', 'sensorLatest', latest]);
    commands.push(['PUBLISH', 'sensors', `{"epoch":"${this.epoch}","seq":${this.seq},"count":${this.count},"latest":${latest},"devices":[${entries.join(',')}]}`]);
    await this.command(commands);
  }
}

/** The web UI. */
class Webui {
  constructor(port, cache) {
    this.port = port;
    this.cache = cache;
    this.address = `http://127.0.0.1:${port}`;
  }

  async start() {
    const env = { PORT: String(this.port), INTERFACE: '127.0.0.1', REDIS_URL: `redis://127.0.0.1:${this.cache.port}` };
    this.server = spawn(WEBUI, { env, stdio: ['ignore', 'ignore', 'inherit'] });
    await until('the web UI', async () => (await fetch(`${this.address}/healthz`)).ok);
  }

  stop(signal) {
    return stop(this.server, signal);
  }
}

/** Everything, for the time of one test. `page()` opens one; whatever a page complains about is kept. */
export async function stage(test) {
  need();
  mkdirSync(PICTURES, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'browser-'));
  const cache = new Cache(await freePort(), folder);
  const webui = new Webui(await freePort(), cache);
  let browser;
  test.after(async () => {
    await browser?.close();
    if (webui.server) await webui.stop('SIGKILL');
    if (cache.server) await cache.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  await cache.start();
  await webui.start();
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const complaints = [];
  const page = async (options = {}) => {
    const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, reducedMotion: 'reduce', ...options });
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.addInitScript(() => addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`)));
    await page.goto(webui.address);
    return page;
  };
  /** Answers a function that tells the seconds of work in the page's process so far. */
  const cpu = async (of) => {
    const session = await of.context().newCDPSession(of);
    await session.send('Performance.enable', { timeDomain: 'threadTicks' });
    return async () => {
      const { metrics } = await session.send('Performance.getMetrics');
      return metrics.find((metric) => metric.name === 'ProcessTime').value;
    };
  };
  return { cache, webui, page, complaints, cpu };
}

/** Waits for the connection to be in a state. */
export const isIn = (page, state) => page.waitForSelector(`#connection-state[data-state="${state}"]`, { timeout: 20_000 });
