-- Lua: strings that are cut and joined, tables that grow, closures, and the collector's work.
-- strings.lua WORDS
local amount = tonumber(arg[1])
local seed = 1
local function random(bound)
  seed = (seed * 48271) % 2147483647
  return seed % bound
end

local words = {}
for i = 1, amount do
  words[i] = string.rep(string.char(97 + random(26)), 1 + random(30)) .. i
end

local sum = 0
for round = 1, 4 do
  local lines, line = {}, {}
  for i = 1, #words do
    line[#line + 1] = words[1 + random(#words)]
    if #line == 12 then
      lines[#lines + 1] = table.concat(line, " ")
      line = {}
    end
  end
  for _, text in ipairs(lines) do
    for word in text:gmatch("%a+%d") do
      sum = (sum * 31 + #word) % 1000000007
    end
  end
  local index = {}
  for i = 1, amount do
    local entry = {id = i, name = words[i], get = function() return i end}
    index[words[1 + random(#words)]] = entry
    sum = (sum + entry.get()) % 1000000007
  end
  for i = 1, #words, 3 do
    words[i] = words[i]:reverse():sub(1, 40) .. random(10)
  end
end
print(sum, #words[1])
