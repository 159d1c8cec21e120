-- End downloads that earlier runs on a private server left unfinished.
-- ARGV: id, id, ...
for _, id in ipairs(ARGV) do end_left_over(record(id)) end
return redis.status_reply('OK')
