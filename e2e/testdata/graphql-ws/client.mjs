// Follows incidents with the reference client of graphql-transport-ws. Arguments: address, token. Each line of standard
// input is a command: "subscribe NAME [CURSOR]", "complete NAME", "query NAME" or "quit"; each line of output is a JSON
// object {name, event, data}.
import { createInterface } from 'node:readline';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token] = process.argv.slice(2);
const say = (name, event, data) => process.stdout.write(JSON.stringify({ name, event, data }) + '\n');

const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  lazy: false,
  retryAttempts: 0,
  onNonLazyError: (err) => say('', 'lost', { code: err?.code, reason: err?.reason, message: err?.message }),
  on: {
    connected: () => say('', 'connected', null),
    closed: (event) => say('', 'closed', { code: event.code, reason: event.reason }),
  },
});

const subscription = `subscription($after: String) { incidentChanged(after: $after) { cursor incidentId entry { kind version comment { body } } incident { number } } }`;
const running = new Map();

const start = (name, payload) =>
  running.set(name, client.subscribe(payload, {
    next: (result) => say(name, 'next', result),
    error: (err) => say(name, 'error', Array.isArray(err) ? err : { code: err?.code, reason: err?.reason, message: String(err?.message ?? err) }),
    complete: () => say(name, 'complete', null),
  }));

for await (const line of createInterface({ input: process.stdin })) {
  const [command, name, cursor] = line.trim().split(' ');
  if (command === 'subscribe') start(name, { query: subscription, variables: { after: cursor ?? null } });
  else if (command === 'query') start(name, { query: '{ viewer { name } }' });
  else if (command === 'complete') running.get(name)();
  else if (command === 'quit') break;
}
await client.dispose();
