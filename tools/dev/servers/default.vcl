vcl 4.1;

import std;
import xkey;

# A cache as a site would run it in front of its gateway: pages are kept until they are purged, by URL or by surrogate key.

backend origin {
    .host = "@ORIGIN_HOST@";
    .port = "@ORIGIN_PORT@";
}

acl purgers {
    "127.0.0.0"/8;
}

sub vcl_recv {
    if (req.method == "PURGE") {
        if (client.ip !~ purgers) {
            return (synth(403, "Forbidden"));
        }
        # Surrogate keys, separated by spaces; the answer says how many pages went.
        if (req.http.xkey-purge) {
            set req.http.xkey = req.http.xkey-purge;
        }
        if (req.http.xkey) {
            set req.http.x-purged = xkey.purge(req.http.xkey);
            return (synth(200, "Purged " + req.http.x-purged));
        }
        # The same, but pages become stale instead of going: the next reader gets the old one while a new one is fetched.
        if (req.http.xkey-softpurge) {
            set req.http.x-purged = xkey.softpurge(req.http.xkey-softpurge);
            return (synth(200, "Purged " + req.http.x-purged));
        }
        return (purge);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    return (hash);
}

sub vcl_backend_response {
    # Surrogate-Key is the name that other caches use; the module reads xkey.
    if (beresp.http.surrogate-key && !beresp.http.xkey) {
        set beresp.http.xkey = beresp.http.surrogate-key;
    }
    if (beresp.status == 200) {
        set beresp.ttl = 1h;
        set beresp.grace = 10s;
    } else {
        set beresp.uncacheable = true;
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.x-cache = "HIT";
    } else {
        set resp.http.x-cache = "MISS";
    }
    unset resp.http.xkey;
}

sub vcl_synth {
    if (req.http.x-purged) {
        set resp.http.x-purged = req.http.x-purged;
    }
}
