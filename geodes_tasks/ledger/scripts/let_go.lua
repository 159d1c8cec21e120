-- Let a held batch or source go on. ARGV: batch | source, name
-- Returns 1 when it was held.
local kind, name = ARGV[1], ARGV[2]
local was = redis.call('HDEL', P .. 'holds', kind .. ':' .. name)
if kind == 'batch' then
  for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
    if redis.call('EXISTS', ready_key(name, account)) == 1 then enter_ring(name, account) end
  end
else
  while true do
    local id = redis.call('RPOP', P .. 'held:' .. name)
    if not id then break end
    local state = field(id, 'state')
    if state == 'PENDING' or state == 'RETRY' then make_ready(id, true) end
  end
end
return was
