#!lua
-- commit: writes one context: verified, versioned, logged, accounted and published by one script, or not at all.
-- KEYS[1] hash    {tag}:c:<id>, the context
-- KEYS[2] stream  {tag}:l:<id>, its delta log
-- KEYS[3] zset    {tag}:exp, id by expiry (ms)
-- KEYS[4] zset    {tag}:use, id by last use (ms)
-- KEYS[5] zset    {tag}:size, id by accounted bytes
-- KEYS[6] hash    {tag}:mem, the shard's accounts
-- KEYS[7] hash    {tag}:o:<id>, where a large context's old bytes wait until the new ones were read back; never there afterwards
-- ARGV[1] string  the document, exact bytes; with a plan what the plan takes inserted bytes from, or empty
-- ARGV[2] string  payload of the frame from the base named in the header to the document; empty: ARGV[1] is that
-- ARGV[3] string  header, words: op by ifVersion|- ifCrc|- baseVersion baseCrc|- baseSha|- sha1 crc length(bytes)
--                 ttl(ms)|keep|none till(ms) previousTill(ms) firstSent(ms) fence kind(full|patch|splice) encoding(-|gz|br)
--                 logKeep(entries) logBytes(bytes) keyframe(versions) tombstone(ms) grace(ms) publishCommand protocol(1|2) sealed(1|0)
-- ARGV[4] string  id
-- ARGV[5] string  channel
-- ARGV[6] string  plan, how the chunks are made (lua/include/plan.lua), or empty: the document is one field, from ARGV[1]
-- ARGV[7..] string  chunks, where the plan names them; the last is the guard (lua/include/guard.lua) over KEYS, the frame's payload and ARGV[3] to ARGV[6]
-- Returns: COMMITTED version at(ms) kind frame(bytes) exp(ms, 0 none) accounted(bytes) due(1: a checkpoint is wanted | 0) | APPLIED version at(ms) crc: this operation did it
--   before | CONFLICT version crc: the current ones | FENCED fence | LOCKED txn deadline(ms) part home: by the intent of a transaction | CHECKSUM sha1 length: as they arrived
--   | BASE_MISMATCH version crc chunk: a plan that builds on other bytes than are stored; chunk names the stored one that is damaged
--   (chunks or len: their list or its length is), or - | DAMAGED: the stored fields do not have their seal, or all of it is lost | GARBLED: not what was sent
--   | WRITE_CORRUPT version: the old bytes are back | LATE now(ms): this attempt came after its time | PENDING wait(ms): an
--   earlier attempt may still arrive | UNCERTAIN version: the log no longer reaches back to the first attempt
-- Publishes: one frame on the channel (a document above 4 KB as further messages that follow its header); before it an `expired` frame
--   where an expired context was still there.
-- Atomic because: version check, bytes, log, indexes, accounts and frame must agree whatever else runs; a script's error does not
--   undo its writes, so every refusal stands before the first of them.
-- @include guard
-- @include clock
-- @include seal
-- @include stored
-- @include intent
-- @include entry
-- @include log
-- @include lost
-- @include retry
-- @include frame
-- @include checkpoint
-- @include account
-- @include remove
-- @include plan
-- @include settle
-- @include fence
-- @include refusals
-- @include writing
local keys = { context = KEYS[1], log = KEYS[2], exp = KEYS[3], use = KEYS[4], size = KEYS[5], mem = KEYS[6], old = KEYS[7] }
local w = commit_request(keys, ARGV)
if not arrived(ARGV[#ARGV], KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], w.framed, ARGV[3], ARGV[4], ARGV[5], ARGV[6]) then
  return answered({ 'GARBLED' })
end
local now = clock_ms()
local refused = commit_check(w, now) or commit_bytes(w, now)
if refused then
  return answered(refused)
end
local done = commit_finish(w, now)
return done.err and done or answered(done)
