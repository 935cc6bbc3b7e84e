-- Takes hold of items that are due, the longest due first.
--
-- KEYS: the queue by when items are due, what they say.
-- ARGV: how long the lease is (ms), then a lease for each item that may be claimed.
-- Answers {id, claims, value, lease, id, …}.
local due, items = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = {}
for n, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, #ARGV - 1)) do
  local lease = ARGV[n + 1]
  local item = redis.call('HGET', items, id)
  if item then
    local claims = struct.unpack('>I4', string.sub(item, 9, 12)) + 1
    local rest = string.sub(item, 13)
    redis.call('HSET', items, id, lease .. struct.pack('>I4', claims) .. rest)
    redis.call('ZADD', due, now + tonumber(ARGV[1]), id)
    for _, part in ipairs({ id, claims, string.sub(rest, 9), lease }) do claimed[#claimed + 1] = part end
  end
end
return claimed
