"""The exchanges of ``entries.py`` as Lua scripts, each atomic in Redis.

Keys, below the prefix of the store: ``g<number>`` is a namespace's generation, which begins with the incarnation of the
server that made it and is good in that one alone. ``e<number>.<record>`` is a record's entry, a hash with either ``l``
(its lease: the generation and a random end) and perhaps ``p`` (its page), or, for each writer at work, ``w<name>`` with
the moment when its mark is over, in milliseconds of the Redis server's clock.
"""

from typing import Final

from libs.redis.client import Script

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

LOOK: Final = Script(
    "look",
    # ARGV: incarnation, random, milliseconds that a generation is kept; of each look: max age, renew (0, 1)
    _NOW
    + """
local out = {}
for i = 1, #KEYS / 2 do
  local generation_key, entry = KEYS[2 * i - 1], KEYS[2 * i]
  local max_age, renew = ARGV[2 * i + 2], ARGV[2 * i + 3]
  local generation = redis.call('GET', generation_key)
  if renew == '1' or not generation or string.sub(generation, 1, #ARGV[1]) ~= ARGV[1] then
    generation = ARGV[1] .. ARGV[2]
    redis.call('SET', generation_key, generation, 'PX', ARGV[3])
  end
  local have = redis.call('HMGET', entry, 'l', 'p')
  local lease = have[1]
  if lease and string.sub(lease, 1, #generation) ~= generation then
    redis.call('DEL', entry)
    lease = false
  end
  if lease then
    out[i] = {lease, have[2]}
  else
    local writing = false
    local marks = redis.call('HGETALL', entry)
    for m = 1, #marks, 2 do
      if tonumber(marks[m + 1]) > now then writing = true else redis.call('HDEL', entry, marks[m]) end
    end
    if writing then
      out[i] = {false, false}
    else
      lease = generation .. ARGV[2] .. i
      redis.call('HSET', entry, 'l', lease)
      redis.call('PEXPIRE', entry, max_age)
      out[i] = {lease, false}
    end
  end
end
return out
""",
)

PUT: Final = Script(
    "put",
    # ARGV: incarnation; of each page: lease, page
    """
for i = 1, #KEYS do
  if redis.call('HGET', KEYS[i], 'l') == ARGV[2 * i] then redis.call('HSET', KEYS[i], 'p', ARGV[2 * i + 1]) end
end
return 1
""",
)

MARK: Final = Script(
    "mark",
    # ARGV: incarnation, writer, milliseconds that a mark lasts, how many of KEYS are entries; the rest are generations
    _NOW
    + """
local last = tonumber(ARGV[4])
for i = last + 1, #KEYS do redis.call('DEL', KEYS[i]) end
for i = 1, last do
  if redis.call('HEXISTS', KEYS[i], 'l') == 1 then redis.call('DEL', KEYS[i]) end
  redis.call('HSET', KEYS[i], 'w' .. ARGV[2], string.format('%.0f', now + tonumber(ARGV[3])))
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 1
""",
)

UNMARK: Final = Script(
    "unmark",
    # ARGV: incarnation, writer
    """
for i = 1, #KEYS do
  if redis.call('HDEL', KEYS[i], 'w' .. ARGV[2]) == 0 and redis.call('HEXISTS', KEYS[i], 'l') == 1 then
    redis.call('DEL', KEYS[i])
  end
end
return 1
""",
)

RENEW: Final = Script(
    "renew",
    """
for i = 1, #KEYS do redis.call('DEL', KEYS[i]) end
return 1
""",
)

ALL: Final = (LOOK, PUT, MARK, UNMARK, RENEW)
