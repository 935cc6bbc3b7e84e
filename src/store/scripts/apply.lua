-- Does all of a batch, or nothing. A script is never undone half way, so nothing in it may fail after its first write:
-- what may be refused (a channel, memory, a read-only server) comes before, and every key is among KEYS.
--
-- KEYS: names, expiring, the batch's marker; then of each condition the value's key; then of each operation the value's
--   key, or the queue's two.
-- ARGV: version, channel or '', conditions, operations; then of each condition its letter and version; then of each
--   operation its letter and two to four more.
-- Answers {1} when it is done, {0, condition, value or nil} when a condition does not hold.
local names, expiring, marker = KEYS[1], KEYS[2], KEYS[3]
local version, channel = ARGV[1], ARGV[2]
local conditions, operations = tonumber(ARGV[3]), tonumber(ARGV[4])
local MARKER_MS = 120000
-- How many arguments and keys an operation takes, by its letter: put, delete, enqueue, dequeue.
local ARGUMENTS = { P = 4, D = 2, E = 4, T = 3 }
local TAKEN = { P = 1, D = 1, E = 2, T = 2 }

local function each_operation(f)
  local key, arg = 4 + conditions, 5 + 2 * conditions
  for _ = 1, operations do
    local letter = ARGV[arg]
    f(letter, key, arg + 1)
    key, arg = key + TAKEN[letter], arg + ARGUMENTS[letter]
  end
end

local function done(changed)
  if channel ~= '' then redis.call('PUBLISH', channel, '') end
  if changed then changed() end
  -- Written even when there is nothing else to write: WAIT then waits for what was written before it as well.
  if operations > 0 then redis.call('SET', marker, '', 'PX', MARKER_MS) end
  return { 1 }
end

if redis.call('EXISTS', marker) == 1 then return done() end

-- Whether something that this batch put is in place: it has been sent before, longer ago than a marker lives. Loading is
-- another matter: one version is split over several batches there.
local placed = false
if not string.find(marker, '}:b:load-', 1, true) then
  each_operation(function(letter, key, arg)
    if letter == 'P' then
      placed = placed or redis.call('GETRANGE', KEYS[key], 0, 7) == version
    elseif letter == 'E' then
      local item = redis.call('HGET', KEYS[key + 1], ARGV[arg])
      placed = placed or (item and string.sub(item, 13, 20) == version)
    end
  end)
end
if placed then return done() end

for n = 1, conditions do
  local letter, expected = ARGV[3 + 2 * n], ARGV[4 + 2 * n]
  local found = redis.call('GETRANGE', KEYS[3 + n], 0, 7)
  local holds
  if letter == 'A' then holds = found == ''
  elseif letter == 'P' then holds = found ~= ''
  else holds = found == expected end
  if not holds then return { 0, n - 1, redis.call('GET', KEYS[3 + n]) } end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The index of names lives as long as the longest-lived name, and so does the list of those that expire.
local function outlive(ttl)
  local left = redis.call('PTTL', names)
  if left == -1 then return end
  if left < ttl then redis.call('PEXPIRE', names, ttl) end
  if redis.call('PTTL', expiring) < math.max(left, ttl) then
    redis.call('PEXPIRE', expiring, math.max(left, ttl))
  end
end

local change = {
  P = function(key, name, value, ttl)
    if ttl == '' then
      redis.call('SET', key, version .. value)
      redis.call('ZADD', names, 0, name)
      redis.call('PERSIST', names)
      redis.call('ZREM', expiring, name)
      redis.call('PERSIST', expiring)
    else
      local fresh = redis.call('EXISTS', names) == 0
      redis.call('SET', key, version .. value, 'PX', ttl)
      redis.call('ZADD', names, 0, name)
      redis.call('ZADD', expiring, now + ttl, name)
      if fresh then redis.call('PEXPIRE', names, 1) end
      outlive(ttl + 1000)
    end
  end,
  D = function(key, name)
    redis.call('DEL', key)
    redis.call('ZREM', names, name)
    redis.call('ZREM', expiring, name)
  end,
  E = function(due, items, id, value, due_in)
    redis.call('HSET', items, id, string.rep('\0', 12) .. version .. value)
    redis.call('ZADD', due, now + due_in, id)
  end,
  T = function(due, items, id, lease)
    local item = lease ~= '' and redis.call('HGET', items, id)
    if lease == '' or (item and string.sub(item, 1, 8) == lease) then
      redis.call('HDEL', items, id)
      redis.call('ZREM', due, id)
    end
  end,
}

return done(function()
  each_operation(function(letter, key, arg)
    if letter == 'P' then
      local ttl = ARGV[arg + 2]
      change.P(KEYS[key], ARGV[arg], ARGV[arg + 1], ttl == '' and '' or tonumber(ttl))
    elseif letter == 'D' then change.D(KEYS[key], ARGV[arg])
    elseif letter == 'E' then change.E(KEYS[key], KEYS[key + 1], ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2]))
    else change.T(KEYS[key], KEYS[key + 1], ARGV[arg], ARGV[arg + 1]) end
  end)
  -- Names whose value has expired, a few each time.
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', now - 1000, 'LIMIT', 0, 16)) do
    redis.call('ZREM', names, name)
    redis.call('ZREM', expiring, name)
  end
end)
