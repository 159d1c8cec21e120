-- Hold a batch or a source. ARGV: batch | source, name, why
-- Returns 1 when it was not held before.
return redis.call('HSETNX', P .. 'holds', ARGV[1] .. ':' .. ARGV[2], ARGV[3])
