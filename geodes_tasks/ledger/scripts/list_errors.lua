-- List downloads of a batch by their errors: an older version kept no such list.
-- ARGV: batch, id, id, ...
local batch = ARGV[1]
for index = 2, #ARGV do
  local d = record(ARGV[index])
  if is_in_batch(d, batch) then list_error(d, batch) end
end
return redis.status_reply('OK')
