-- Remove the next records of a batch that was forgotten, unless another batch has them too.
-- ARGV: rest (as in `forgotten`), how many, how many to leave out at the head: they stay for now
-- Returns {looked at, removed, stay for now}
local rest, removed, stay = P .. 'forgotten:' .. ARGV[1], 0, {}
local first = tonumber(ARGV[3])
local ids = redis.call('ZRANGE', rest, first, first + tonumber(ARGV[2]) - 1)

-- Its part files are to be swept first: that needs the record.
local function has_litter(id)
  local token = field(id, 'token')
  return token and redis.call('LPOS', P .. 'litter', id .. ' ' .. token)
end

local function remove(id, state)
  total('state:' .. state, -1)
  if state == 'SUCCESS' then total('outcome:' .. field(id, 'outcome'), -1) end
  total('bytes_total', -number(field(id, 'size')))
  total('bytes_done', -number(field(id, 'done')))
  local path = field(id, 'path')
  if redis.call('HGET', P .. 'paths', path) == id then redis.call('HDEL', P .. 'paths', path) end
  redis.call('UNLINK', download(id))
  removed = removed + 1
end

for _, id in ipairs(ids) do
  local state, others = field(id, 'state'), others_of(id)
  local over = state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED'
  if state and #others > 0 then
    hand_over(id, state, others)
  elseif state and (not over or has_litter(id)) then
    stay[#stay + 1] = id
  elseif state then
    remove(id, state)
  end
end
local kept = {}
for _, id in ipairs(stay) do kept[id] = true end
for _, id in ipairs(ids) do
  if not kept[id] then redis.call('ZREM', rest, id) end
end
if redis.call('EXISTS', rest) == 0 then redis.call('SREM', P .. 'forgotten', ARGV[1]) end
return { #ids, removed, #stay }
