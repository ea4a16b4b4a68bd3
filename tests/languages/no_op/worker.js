import { worker } from './verger.js';

export const { describe, perform } = worker({ name: 'no-op', version: '0.1.0' }, () => {});
