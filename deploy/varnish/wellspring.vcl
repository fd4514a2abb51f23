vcl 4.1;

# Varnish in front of Wellspring's gateway: pages are kept until they are purged, by URL or by tag, and what was on its
# way from the gateway when it was purged is never kept. Needs a backend, an acl `purgers`, and the modules xkey and
# vsthrottle (varnish-modules 0.20). README.md says what is promised, and why it is done so.

import purge;
import std;
import vsthrottle;
import xkey;

sub vcl_recv {
    # Taken from purgers only: whoever may send it can empty the cache.
    if (client.ip !~ purgers) {
        unset req.http.X-Min-Version;
        if (req.method == "PURGE") {
            return (synth(403, "Purges are not taken from this address"));
        }
    }
    unset req.http.X-Purged;
    if (req.method == "PURGE") {
        call wellspring_purge;
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405, "GET, HEAD and PURGE are served here"));
    }
    # Pages are the same for everybody.
    unset req.http.Cookie;
    unset req.http.Authorization;
    return (hash);
}

sub wellspring_purge {
    if (req.http.Xkey-Purge || req.http.Xkey) {
        # Counted before it is done: a fetch that ends in between sees the count, one that ended before is purged.
        if (!vsthrottle.is_denied("tags " + std.time2integer(now, 0) / 86400, 4000000000, 1000000000w)) {
            set req.http.X-Purged = xkey.purge(req.http.Xkey-Purge + " " + req.http.Xkey);
            return (synth(200, "Purged"));
        }
        return (synth(503, "More purges by tag than a day may have"));
    }
    if (req.http.Xkey-Softpurge) {
        # The old page is shown once more while the new one is fetched: for operators who must spare the gateway.
        set req.http.X-Purged = xkey.softpurge(req.http.Xkey-Softpurge);
        return (synth(200, "Purged softly"));
    }
    # A purge looks its page up as a reader would, and so waits while the page is being fetched: then what it was
    # fetched as is purged too. A page whose time is over does not keep it from waiting.
    set req.grace = 0s;
    return (hash);
}

sub vcl_hash {
    # A gateway is one site by whatever name it is asked, and a purge may come by another name than readers do.
    hash_data(req.url);
    return (lookup);
}

sub vcl_miss {
    if (req.method == "PURGE") {
        set req.http.X-Purged = purge.hard();
        return (synth(200, "Purged"));
    }
}

sub vcl_hit {
    if (req.method == "PURGE") {
        set req.http.X-Purged = purge.hard();
        return (synth(200, "Purged"));
    }
    if (req.http.X-Min-Version && obj.http.X-Wellspring-Version) {
        # Both are 32 lower-case hexadecimal digits: sorted as a query, the older one comes first.
        if (obj.http.X-Wellspring-Version != req.http.X-Min-Version
            && std.querysort("?" + req.http.X-Min-Version + "&" + obj.http.X-Wellspring-Version)
            == "?" + obj.http.X-Wellspring-Version + "&" + req.http.X-Min-Version) {
            set req.http.X-Purged = purge.hard();
            return (restart);
        }
    }
}

sub vcl_backend_fetch {
    # Never the same twice: the day, and what is left of its purges by tag.
    set bereq.http.X-Tag-Purges = std.time2integer(now, 0) / 86400 + " "
        + vsthrottle.remaining("tags " + std.time2integer(now, 0) / 86400, 4000000000, 1000000000w);
}

sub vcl_backend_response {
    set beresp.http.X-Tag-Purges = std.time2integer(now, 0) / 86400 + " "
        + vsthrottle.remaining("tags " + std.time2integer(now, 0) / 86400, 4000000000, 1000000000w);
    if (beresp.http.X-Tag-Purges != bereq.http.X-Tag-Purges) {
        # Something was purged by tag since the page was asked for. Its own tags are known only now; it may have been it.
        if (bereq.retries == 0) {
            return (retry);
        }
        set beresp.uncacheable = true;
    }
    unset beresp.http.X-Tag-Purges;
    if (bereq.http.X-Min-Version && beresp.http.X-Wellspring-Version) {
        if (beresp.http.X-Wellspring-Version != bereq.http.X-Min-Version
            && std.querysort("?" + bereq.http.X-Min-Version + "&" + beresp.http.X-Wellspring-Version)
            == "?" + beresp.http.X-Wellspring-Version + "&" + bereq.http.X-Min-Version) {
            set beresp.uncacheable = true;
        }
    }
    # s-maxage says how long; 0 is for spellings of a URL that no purge would find.
    if (beresp.status != 200 || beresp.ttl <= 0s || beresp.http.Set-Cookie) {
        set beresp.uncacheable = true;
    }
    if (beresp.uncacheable) {
        # Nothing is remembered about it: readers of one page go on waiting for each other's fetch, so that an older
        # answer cannot come in beside a newer one.
        set beresp.ttl = 0s;
        set beresp.grace = 0s;
        set beresp.keep = 0s;
    } else {
        # A page whose time is over was not purged: it may be shown while it is asked for again, or while the gateway
        # is away; and it is asked for by its ETag.
        set beresp.grace = 1h;
        set beresp.keep = 1d;
    }
    return (deliver);
}

sub vcl_deliver {
    set resp.http.X-Cache = "MISS";
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    }
    unset resp.http.Xkey;
}

sub vcl_synth {
    if (req.http.X-Purged) {
        set resp.http.X-Purged = req.http.X-Purged;
    }
    set resp.http.Cache-Control = "no-store";
    if (req.method == "PURGE") {
        # They come by the thousand: no body for any of them.
        set resp.body = "";
        return (deliver);
    }
}
