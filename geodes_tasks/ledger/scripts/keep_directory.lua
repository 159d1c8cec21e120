-- Keep the directory of an archive where there is room, for as long as the first one has left.
-- ARGV: checksum of the archive, directory, the most that are kept, seconds for which
local checksum, directory, most, seconds = unpack(ARGV)
local key = P .. 'directories'
local kept = call('HLEN', key)
if kept < tonumber(most) or call('HEXISTS', key, checksum) == 1 then
  call('HSET', key, checksum, directory)
  if kept == 0 then call('EXPIRE', key, seconds) end
end
