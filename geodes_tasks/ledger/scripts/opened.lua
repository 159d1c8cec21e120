-- A download that tried whether there is quota again gets its file.
-- ARGV: id, token
if not holds(ARGV[1], ARGV[2]) then return 0 end
quota_is_back(field(ARGV[1], 'account'))
return 1
