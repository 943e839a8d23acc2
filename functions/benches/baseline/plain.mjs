// What one would write first in Node: the event parsed as JSON, one MULTI per batch through npm's client
// on a kept connection.

import { createClient } from 'redis';
import { run } from './runtime.mjs';

const redis = await createClient({ url: process.env.REDIS_URL }).connect();

await run(async (event) => {
  const multi = redis.multi();
  let latest = '';
  for (const record of event.Records) {
    latest = Buffer.from(record.kinesis.data, 'base64').toString();
    multi.set('sensorLatest', latest).incr('sensorCount');
  }
  await multi.publish('sensors', latest).exec();
  return { batchItemFailures: [] };
});
