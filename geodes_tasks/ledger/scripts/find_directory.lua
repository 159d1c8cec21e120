-- Return the directory of an archive as it was kept; '' without one.
-- ARGV: checksum of the archive
return call('HGET', P .. 'directories', ARGV[1]) or ''
