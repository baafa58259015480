-- Counts recipients for every subject, or for none.
--
-- KEYS: the reservation, then the subjects. ARGV: the recipients, the lease in milliseconds; then
-- quota and rate of each subject.
--
-- Answers {1, may a threshold be reported, then minute and sum of each subject}, or
-- {0, whose limit, 0 for the quota and 1 for the rate, the wait in microseconds or -1, the rest},
-- or {-1} when the reservation was undone before it came. A reservation that is open already was
-- asked for before, and the answer was lost: it is answered again, and counted once.
--
-- What is kept of the reservation: its moment, its recipients, the minute of each subject.

local now, recipients, lease_ms = now_us(), tonumber(ARGV[1]), tonumber(ARGV[2])

local function limits_of(i)
    return tonumber(ARGV[1 + 2 * i]), tonumber(ARGV[2 + 2 * i])
end

local known = redis.call("GET", KEYS[1])
if known == "undone" then
    return {-1}
end
if known then
    local numbers = {}
    for number in string.gmatch(known, "%d+") do
        numbers[#numbers + 1] = tonumber(number)
    end
    local answer = {1, 0}
    for i = 1, #KEYS - 1 do
        local usage, quota, rate = load(KEYS[i + 1], now), limits_of(i)
        see(usage, rate, now)
        if #reached(usage, quota) > 0 then
            answer[2] = 1
        end
        answer[#answer + 1], answer[#answer + 2] = numbers[i + 2], usage.used
    end
    return answer
end

local usages, quotas, rates, back = {}, {}, {}, {}
local worst, refusal = now, nil

local function refuse(i, kind, moment, left)
    if moment and moment > worst then
        worst, refusal = moment, {0, i - 1, kind, -1, left}
    end
end

for i = 1, #KEYS - 1 do
    local usage = load(KEYS[i + 1], now)
    local quota, rate = limits_of(i)
    usages[i], quotas[i], rates[i], back[i] = usage, quota, rate, is_moved_back(usage, now)
    see(usage, rate, now)
    refuse(i, 0, room_at(usage, quota, recipients), math.max(0, quota - usage.used))
    refuse(i, 1, lends_at(usage, rate), 0)
end

if refusal then
    for i, usage in ipairs(usages) do
        if back[i] then
            save(usage, rates[i])
        end
    end
    if worst ~= NEVER then
        refusal[4] = worst - now
    end
    return refusal
end

local answer, row = {1, 0}, {text(now), text(recipients)}
for i, usage in ipairs(usages) do
    count(usage, recipients)
    save(usage, rates[i])
    if #reached(usage, quotas[i]) > 0 then
        answer[2] = 1
    end
    answer[#answer + 1], answer[#answer + 2] = usage.minute, usage.used
    row[#row + 1] = text(usage.minute)
end
redis.call("SET", KEYS[1], table.concat(row, " "), "PX", text(lease_ms + 60000))
return answer
