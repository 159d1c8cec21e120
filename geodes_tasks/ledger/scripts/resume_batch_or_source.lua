-- Resume a paused batch or source.
-- ARGV: batch | source, name
-- Returns 1 when it was paused.
local kind, name = ARGV[1], ARGV[2]
if kind == 'batch' then rejoin_rings(name) end
return call('HDEL', P .. 'holds', kind .. ':' .. name)
