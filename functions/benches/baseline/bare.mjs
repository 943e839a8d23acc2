// The same as plain.mjs without a client: text in Redis's protocol, replies counted but not read.
// The least that Node can do.

import net from 'node:net';
import { run } from './runtime.mjs';

const redisUrl = new URL(process.env.REDIS_URL);
const redis = net.connect(Number(redisUrl.port), redisUrl.hostname).setNoDelay(true);

function command(...parts) {
  let text = `*${parts.length}\r\n`;
  for (const part of parts) text += `$${Buffer.byteLength(part)}\r\n${part}\r\n`;
  return text;
}

// Replies are lines: OK, then QUEUED for each, then EXEC's: one for the list and one for each.
function transaction(text, replies) {
  return new Promise((resolve, reject) => {
    let lines = 0;
    const expected = replies * 2 + 2;
    const listen = (chunk) => {
      if (chunk[0] === 0x2d) reject(new Error(chunk.toString()));
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines += 1;
      if (lines >= expected) {
        redis.off('data', listen);
        resolve();
      }
    };
    redis.on('data', listen);
    redis.write(text);
  });
}

await run(async (event) => {
  let text = command('MULTI');
  let latest = '';
  for (const record of event.Records) {
    latest = Buffer.from(record.kinesis.data, 'base64').toString();
    text += command('SET', 'sensorLatest', latest) + command('INCR', 'sensorCount');
  }
  text += command('PUBLISH', 'sensors', latest) + command('EXEC');
  await transaction(text, event.Records.length * 2 + 1);
  return { batchItemFailures: [] };
});
