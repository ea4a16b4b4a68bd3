// The host's interfaces, `verger:worker/…`, come from host.mjs.
import { register } from 'node:module';

const host = new URL('./host.mjs', import.meta.url).href;
const hooks = `export const resolve = (name, context, next) =>
  name.startsWith('verger:worker/') ? { url: ${JSON.stringify(host)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
