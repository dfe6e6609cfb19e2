// Opens a graph with Netron's own reader and prints what Netron shows of it, as JSON.
//
// Usage: node netron.mjs NETRON_PACKAGE_FOLDER GRAPH
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, graph] = process.argv.slice(2);
globalThis.window = globalThis; // Netron expects a browser's global object
const load = (name) => import(pathToFileURL(path.join(folder, `${name}.js`)).href);
const { ModelFactoryService } = await load('view');
const { FileStream } = await load('node');

const errors = [];
const { size, mtimeMs } = await stat(graph);
const require = (id) => load(id.replace(/^\.\//, ''));
const context = {
    identifier: path.basename(graph),
    stream: new FileStream(graph, 0, size, mtimeMs),
    entries: new Map(),
    asset: (file) => readFile(path.join(folder, file), 'utf-8'),
    require,
    fetch: async (file) => {
        const weights = path.join(path.dirname(graph), file);
        const { size, mtimeMs } = await stat(weights);
        return new FileStream(weights, 0, size, mtimeMs);
    },
    error: (error) => errors.push(error.message),
};

const model = await new ModelFactoryService({ require, environment: () => undefined }).open(context);
const [module] = model.modules;
const ports = (values) => Object.fromEntries(values.map(({ name, value }) => [name, String(value[0].type)]));
console.log(JSON.stringify({
    format: model.format,
    producer: model.producer,
    name: module.name,
    description: module.description,
    metadata: Object.fromEntries(model.metadata.map(({ name, value }) => [name, value])),
    inputs: ports(module.inputs),
    outputs: ports(module.outputs),
    nodes: module.nodes.map((node) => ({ name: node.name, type: node.type.name, known: Boolean(node.type.module) })),
    errors,
}));
