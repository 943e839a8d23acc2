// What one would write with Bun: its own WebSocket server and Redis client. The application merges
// what changed, and sends at once and then at most every 50 ms.
import { RedisClient } from 'bun';

const devices = new Map();
let changed = new Map();
let newest = { epoch: 'bench', seq: 0, count: 0, latest: null };
let waiting = false;

const redis = new RedisClient(process.env.REDIS_URL);
await redis.connect();
await redis.subscribe('sensors', (text) => {
  const announcement = JSON.parse(text);
  newest = announcement;
  for (const device of announcement.devices) {
    devices.set(device.device, device);
    changed.set(device.device, device);
  }
  if (!waiting) send();
});

const frame = (some, full) => {
  const { epoch, seq, count, latest } = newest;
  return JSON.stringify({ epoch, seq, count, latest, devices: [...some.values()], full, now: Date.now() });
};

function send() {
  server.publish('all', frame(changed, false));
  changed = new Map();
  waiting = true;
  setTimeout(() => {
    waiting = false;
    if (changed.size) send();
  }, 50);
}

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.env.PORT),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('a WebSocket', { status: 426 })),
  websocket: {
    open(socket) {
      socket.subscribe('all');
      socket.send(frame(devices, true));
    },
    message() {},
  },
});
