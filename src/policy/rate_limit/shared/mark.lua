-- A mark: the bucket of one token of bucket.lua, as it is while that token is out.
--
-- KEYS[1]  the mark: "micros part", the time at which it ends
-- ARGV     microseconds for which it is set unless it stands (0: it is only looked at), the most that it ever stands
-- Answers  1 when this call has set it, microseconds for which it stands still
--
-- After a fail-over the clock may have gone back: from when that is seen it stands for no longer than it was ever set.
local wish, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local left, set, changed = 0, 0, false
local state = redis.call('GET', KEYS[1])
if state then
  local at, part = string.match(state, '^(%d+) (%d+)$')
  left = math.max(0, tonumber(at) + (tonumber(part) > 0 and 1 or 0) - now)
  if left > most then left, changed = most, true end
end
if left == 0 and wish > 0 then
  left, set, changed = wish, 1, true
end
if changed then
  redis.call('SET', KEYS[1], string.format('%.0f 0', now + left), 'PX', string.format('%.0f', math.floor(left / 1000) + 1))
end
return { set, left }
