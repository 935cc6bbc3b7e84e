-- Names in lexical order with their values. Read-only: what has expired is left out, and removed by the next batch.
--
-- KEYS: the names.
-- ARGV: what values' keys begin with, least name, greatest name (as ZRANGEBYLEX has them), limit.
-- Answers {name, value, name, …}.
local least, greatest, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local found = {}
while #found < 2 * limit do
  local page = redis.call('ZRANGEBYLEX', KEYS[1], least, greatest, 'LIMIT', 0, limit)
  for _, name in ipairs(page) do
    local value = redis.call('GET', ARGV[1] .. name)
    if value and #found < 2 * limit then
      found[#found + 1] = name
      found[#found + 1] = value
    end
  end
  if #page < limit then break end
  least = '(' .. page[#page]
end
return found
