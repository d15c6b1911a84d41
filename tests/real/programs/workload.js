// Buffers, zlib and crypto in the thread pool, streams and worker threads, with a sum of every
// result printed: the parts of node whose memory comes from malloc and operator new.
'use strict';
const { createHash, pbkdf2, createCipheriv } = require('crypto');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { pipeline } = require('stream/promises');
const { promisify } = require('util');
const fs = require('fs');
const zlib = require('zlib');

function sha256(data) { return createHash('sha256').update(data).digest('hex'); }

function bytes(count, seed) {
    const out = Buffer.alloc(count);
    let state = seed;
    for (let i = 0; i < count; i++) {
        state = (Math.imul(state, 1103515245) + 12345) >>> 0;
        out[i] = i % 97 < 60 ? 65 + (i >> 6) % 26 : state >>> 16;
    }
    return out;
}

async function compress() {
    const inputs = Array.from({ length: 60 }, (_, i) => bytes(2000 * (i + 1), i));
    const gzip = promisify(zlib.gzip), gunzip = promisify(zlib.gunzip);
    const brotli = promisify(zlib.brotliCompress), unbrotli = promisify(zlib.brotliDecompress);
    const options = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } };
    const sums = await Promise.all(inputs.map(async (input, i) => {
        const packed = await (i % 2 ? gzip(input) : brotli(input, options));
        const back = await (i % 2 ? gunzip(packed) : unbrotli(packed));
        if (!back.equals(input)) throw new Error(`input ${i} did not come back`);
        return sha256(packed);
    }));
    console.log('compress', sha256(sums.join()));
}

async function encrypt() {
    const derive = promisify(pbkdf2);
    const keys = await Promise.all(Array.from({ length: 24 }, (_, i) =>
        derive(`word${i}`, 'salt', 2000, 32, 'sha256')));
    const sums = keys.map((key, i) => {
        const cipher = createCipheriv('aes-256-cbc', key, Buffer.alloc(16, i));
        return sha256(Buffer.concat([cipher.update(bytes(30000, i)), cipher.final()]));
    });
    console.log('encrypt', sha256(sums.join()));
}

async function streams() {
    fs.writeFileSync('stream.in', bytes(2000000, 5));
    await pipeline(fs.createReadStream('stream.in'), zlib.createDeflate({ level: 1 }),
        zlib.createInflate(), fs.createWriteStream('stream.out'));
    console.log('streams', sha256(fs.readFileSync('stream.out')));
}

function work(number) {
    const found = new Map();
    const buffers = [];
    for (let i = 0; i < 4000; i++) {
        const text = `${number}-${i}`.repeat(i % 40 + 1);
        found.set(text, sha256(text));
        buffers.push(Buffer.from(text));
        if (i % 3 === 0) buffers.splice(i % buffers.length, 1);
    }
    return sha256([...found.values()].join() + Buffer.concat(buffers).toString('base64'));
}

async function workers() {
    const results = await Promise.all([1, 2, 3, 4].map((number) => new Promise((done, fail) => {
        const worker = new Worker(__filename, { workerData: number });
        worker.on('message', done);
        worker.on('error', fail);
    })));
    console.log('workers', sha256(results.join()));
}

async function main() {
    await compress();
    await encrypt();
    await streams();
    await workers();
}

if (isMainThread) main();
else parentPort.postMessage(work(workerData));
