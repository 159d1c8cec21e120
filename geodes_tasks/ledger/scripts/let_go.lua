-- Let a held batch or source go on. ARGV: batch | source, name
-- Returns 1 when it was held.
local kind, name = ARGV[1], ARGV[2]
local was = redis.call('HDEL', P .. 'holds', kind .. ':' .. name)
if kind == 'batch' then
  for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
    if has_ready(name, account) then enter_ring(name, account) end
  end
end
return was
