-- Resume a paused batch or source.
-- ARGV: batch | source, name
-- Returns 1 when it was paused.
local kind, name = ARGV[1], ARGV[2]
for _, account in ipairs(kind == 'batch' and all_accounts() or {}) do
  if has_ready(name, account) then enter_ring(name, account) end
end
return call('HDEL', P .. 'holds', kind .. ':' .. name)
