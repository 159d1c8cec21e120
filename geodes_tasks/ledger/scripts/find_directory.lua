-- Return the directory of an archive as it was kept; '' without one.
-- ARGV: checksum of the archive
local checksum = ARGV[1]
return call('HGET', P .. 'directories', checksum) or ''
