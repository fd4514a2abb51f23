'use strict';

/*
 * The backend that the suite is given: each operation becomes one HTTP request to the front in Python, which speaks to the
 * storage service through its SDK. Blobs, which JSON does not have, travel as {"$blob": base64}.
 */

const http = require('http');
const P = require('bluebird');
const spec = require('restbase-mod-table-spec').spec;

const front = new URL(process.env.RESTBASE_FRONT);
const agent = new http.Agent({ keepAlive: true });

function packed(value) {
    if (Buffer.isBuffer(value)) {
        return { $blob: value.toString('base64') };
    }
    if (Array.isArray(value)) {
        return value.map(packed);
    }
    if (value !== null && typeof value === 'object') {
        return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, packed(one)]));
    }
    return value;
}

function unpacked(name, value) {
    const blob = value !== null && typeof value === 'object' && value.$blob;
    return typeof blob === 'string' ? Buffer.from(blob, 'base64') : value;
}

function ask(operation, request) {
    const body = JSON.stringify({
        operation,
        domain: request.params.domain,
        table: request.params.table,
        body: packed(request.body) || {}
    });
    return new P((resolve, reject) => {
        const asked = http.request({
            agent,
            host: front.hostname,
            port: front.port,
            path: front.pathname,
            method: 'POST',
            headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
        }, (response) => {
            const pieces = [];
            response.on('data', (piece) => pieces.push(piece));
            response.on('error', reject);
            response.on('end', () => {
                const text = Buffer.concat(pieces).toString();
                if (response.statusCode !== 200) {
                    reject(new Error(`the front answered ${response.statusCode}: ${text}`));
                } else {
                    resolve(JSON.parse(text, unpacked));
                }
            });
        });
        asked.on('error', reject);
        asked.end(body);
    });
}

const operations = {};
['createTable', 'dropTable', 'getTableSchema', 'get', 'put', 'delete'].forEach((operation) => {
    operations[operation] = (context, request) => ask(operation, request);
});

module.exports = () => P.resolve({ spec, operations });
