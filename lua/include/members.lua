-- members: the writes of a transaction in one shard, read from a list: each as `writing`, `deleting` and `expected` have it, which it needs.
--   The list is words, `commit:<n>`, `delete:<n>` or `expect:<n>`, n the number of arguments that it has of those that follow one another. What is
--   expected has three: id, version (0: none), and its CRC-32 or -. It is read before the guard has looked: any list makes some members.
local LEAST = { commit = 6, delete = 4, expect = 3 }
local function read_members(list, args, at, keys_of)
  local members = {}
  for kind, count in string.gmatch(list, '(%a+):(%d+)') do
    local own = {}
    count = tonumber(count)
    for i = 1, math.max(LEAST[kind] or LEAST.expect, math.min(count, #args)) do
      own[i] = i <= count and args[at + i] or ''
    end
    at = at + count
    local m = { kind = kind }
    if kind == 'commit' then
      m.w = commit_request(keys_of(#members + 1, own[4]), own)
      m.guarded = { m.w.framed, own[3], own[4], own[5], own[6] }
    elseif kind == 'delete' then
      m.w = delete_request(keys_of(#members + 1, own[3]), own)
      m.guarded = own
    else
      m.w = { keys = keys_of(#members + 1, own[1]), id = own[1], version = tonumber(own[2]), crc = own[3] }
      m.guarded = own
    end
    members[#members + 1] = m
  end
  return members
end

-- All that the guard covers of a call with these keys and first arguments.
local function guarded_of(keys, members, first)
  local list = {}
  for i = 1, #keys do
    list[i] = keys[i]
  end
  for i = 1, #first do
    list[#list + 1] = first[i]
  end
  for _, m in ipairs(members) do
    for i = 1, #m.guarded do
      list[#list + 1] = m.guarded[i]
    end
  end
  return list
end

-- Two words that stand for them in a record: for all but the bytes of documents, which have checksums of their own, and for which contexts they are.
local function members_sum(members, list)
  local ids = { list }
  for i, m in ipairs(members) do
    ids[i + 1] = m.w.id
  end
  return string.sub(redis.sha1hex(table.concat(guarded_of({}, members, { list }), '\n')), 1, 16) .. ' '
    .. string.sub(redis.sha1hex(table.concat(ids, '\n')), 1, 16)
end

-- What became of an earlier attempt, as `retry` tells of one write: what one of them has, all have, whatever has happened to the others since; and
--   what a commit certainly has not, none has. A deletion of what is not there leaves nothing to know it by. Nil, or the number of a member and the answer.
local function earlier_members(members, now)
  local never, at, found = false, nil, nil
  for i, m in ipairs(members) do
    if m.kind ~= 'expect' and m.w.prev ~= '0' then
      local w, stored = m.w, stored_fields(m.w.keys.context)
      local answer = stored.op == w.op and not fields_damaged(w.id, stored, w.sealed == '1') and { 'APPLIED', tonumber(stored.v), tonumber(stored.at) }
        or earlier_attempt(w.id, w.keys.log, w.op, now, tonumber(w.prev), tonumber(w.sent), stored)
      if not answer then
        never = never or m.kind == 'commit'
      elseif answer[1] == 'APPLIED' then
        return i, answer
      elseif not found or answer[1] == 'PENDING' then
        at, found = i, answer
      end
    end
  end
  if found and not never then
    return at, found
  end
  for _, m in ipairs(members) do
    m.w.prev = '0'
  end
  return nil
end

-- Nil, or the number of the first member that cannot be written, and why. To delete what is not there is nothing to do. What was decided is not asked
--   what was expected.
local function check_members(members, now, decided)
  if not decided then
    local at, answer = earlier_members(members, now)
    if at then
      return at, answer
    end
  end
  for i, m in ipairs(members) do
    local refused
    if m.kind ~= 'expect' then
      -- fails where it is no stream, before anything is written
      redis.call('XLEN', m.w.keys.log)
    end
    if m.kind == 'commit' then
      refused = commit_check(m.w, now, decided)
      -- a log that is ahead of its context takes only whole documents, which is found out when others are written already
      if not refused and m.w.in_place and log_last_version(m.w.keys.log) > m.w.version then
        refused = { 'BASE_MISMATCH', m.w.version, m.w.stored.crc, '-' }
      end
    elseif m.kind == 'delete' then
      refused = delete_check(m.w, now, decided)
      m.absent = refused and refused[1] == 'ABSENT'
      refused = not m.absent and refused or nil
    elseif not decided then
      refused = expect_check(m.w, now)
    end
    if refused and refused[1] == 'APPLIED' and decided then
      -- a script that ended in its midst
      m.applied, refused = refused, nil
    end
    if refused and refused[1] == 'BASE_MISMATCH' and decided and (m.w.stored.q or not m.w.stored.v) then
      -- what it builds on is gone for good, and it with that
      m.absent, refused = true, nil
    end
    if refused then
      return i, refused
    end
  end
  return nil
end

-- Writes what was checked, all of it; nil and the words of each written member (version kind frame(bytes) exp(ms) due(1|0)), or the number of the
--   member whose bytes could not be written, everything being as it was.
local function write_members(members, now)
  for i, m in ipairs(members) do
    if m.kind == 'commit' and not (m.applied or m.absent) then
      local refused = commit_bytes(m.w, now)
      if refused then
        for j = i - 1, 1, -1 do
          if members[j].w.restore then
            members[j].w.restore()
          end
        end
        return i, refused
      end
    end
  end
  local words = {}
  for _, m in ipairs(members) do
    local version, kind, frame, exp, due = 0, 'none', 0, 0, 0
    if m.applied then
      version, kind = m.applied[2], 'full'
    elseif m.kind == 'commit' and not m.absent then
      local done = commit_finish(m.w, now)
      version, kind, frame, exp, due = done[2], done[4], done[5], done[6], done[8]
    elseif m.kind == 'delete' and not m.absent then
      version, kind = delete_finish(m.w, now)[2], 'deleted'
    end
    if m.kind ~= 'expect' then
      words[#words + 1] = version
      words[#words + 1] = kind
      words[#words + 1] = frame
      words[#words + 1] = exp
      words[#words + 1] = due
    end
  end
  return nil, words
end
