-- Take over a ledger of an older schema in which nothing is unfinished: records that are over read
-- the same. Its list of litter, `<id> <token>` each, is moved block by block.
-- ARGV: old schema, schema of this version, how many entries of litter at most
-- Returns the schema that the ledger has now; '' when a next call moves more litter.
local old_schema, new_schema, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local unfinished = 0
for state in pairs(ACTIVE) do
  unfinished = unfinished + number(call('HGET', P .. 'totals', 'state:' .. state))
end
if unfinished > 0 or call('GET', P .. 'schema') ~= old_schema then return call('GET', P .. 'schema') end
if call('TYPE', P .. 'litter').ok == 'list' then call('RENAME', P .. 'litter', P .. 'litter:old') end
for _, entry in ipairs(call('LPOP', P .. 'litter:old', most) or {}) do
  local id, token = string.match(entry, '^(%S+) (%d+)$')
  if id then call('ZADD', P .. 'litter', token, id) end
end
if call('EXISTS', P .. 'litter:old') == 1 then return '' end
call('SET', P .. 'schema', new_schema)
return new_schema
