'use strict';

/* What mocha is given: the suite, with the storage service behind its backend. */
require('restbase-mod-table-spec').test(require('./adapter.js'));
