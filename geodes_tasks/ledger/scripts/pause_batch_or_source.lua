-- Pause a batch or a source: nothing new of it starts.
-- ARGV: batch | source, name, why
-- Returns 1 when it was not paused before.
local kind, name, why = ARGV[1], ARGV[2], ARGV[3]
return call('HSETNX', P .. 'holds', kind .. ':' .. name, why)
