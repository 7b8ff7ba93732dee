#!/usr/bin/env node
import { execute } from './execute.js';
import { Interruption } from './Interruption.js';

const signal = Interruption.listen();
await execute(process.argv.slice(2), signal);
const interruption = Interruption.of(signal);
// The store is closed by now, or was never open; a connection attempt under way is not worth waiting for.
if (interruption) process.exit(interruption.exitCode);
