vcl 4.1;

# What differs from site to site: where the gateway is, who may purge. The rest is wellspring.vcl.

backend gateway {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    # An answer that begins later is not kept: wellspring.vcl remembers purges for longer than that, and no longer.
    .first_byte_timeout = 10s;
    .between_bytes_timeout = 10s;
}

# Executors, the engine and the auditor; no reader.
acl purgers {
    "127.0.0.0"/8;
    "::1";
}

include "/etc/varnish/wellspring.vcl";
