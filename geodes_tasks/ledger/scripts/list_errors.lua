-- List downloads of a batch by their errors: an older version kept no such list.
-- ARGV: batch, id, id, ...
local batch = ARGV[1]
for index = 2, #ARGV do
  local id = ARGV[index]
  local state, text = fields(id, 'state', 'error')
  if has_error(state) and is_in_batch(id, batch) then
    call('ZADD', errors_key(batch), 0, error_entry(id, state, text))
  end
end
return redis.status_reply('OK')
