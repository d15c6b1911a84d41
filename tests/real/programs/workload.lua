-- Tables, strings, closures, coroutines and collection, with a sum of every result printed.
local seed = 42
local function next_number() seed = (seed * 1103515245 + 12345) % 2147483648; return seed >> 8 end

local function sum_of(text)
    local sum = 5381
    for i = 1, #text do sum = (sum * 33 + text:byte(i)) % 4294967296 end
    return sum
end

local function word()
    local letters = {}
    for i = 1, next_number() % 20 + 1 do letters[i] = string.char(97 + next_number() % 26) end
    return table.concat(letters)
end

local words, index = {}, {}
for i = 1, 60000 do
    words[i] = word()
    local entry = index[words[i]] or {count = 0, at = {}}
    entry.count = entry.count + 1
    entry.at[#entry.at + 1] = i
    index[words[i]] = entry
end
table.sort(words)
print("words", #words, sum_of(table.concat(words, " ")))

local text = table.concat(words, " ")
local changed, count = text:gsub("(%w)(%w+)%s", function(a, b) return b .. a .. "-" end)
print("changed", count, sum_of(changed))

local tree
local function insert(node, key)
    if not node then return {key = key} end
    local side = key < node.key and "left" or "right"
    node[side] = insert(node[side], key)
    return node
end
for i = 1, 40000 do tree = insert(tree, next_number()) end
local function walk(node)
    if node then walk(node.left); coroutine.yield(node.key); walk(node.right) end
end
local keys = {}
for key in coroutine.wrap(function() walk(tree) end) do keys[#keys + 1] = key end
print("tree", #keys, sum_of(table.concat(keys, ",")))

local functions = {}
for i = 1, 50000 do functions[i] = function(x) return x * i % 1000 + #words[i % 100 + 1] end end
local total = 0
for round = 1, 4 do
    for i = 1, #functions do total = total + functions[i](round) end
    for i = round, #functions, 4 do
        local old = functions[i]
        functions[i] = function(x) return old(x) + 1 end
    end
    collectgarbage(round % 2 == 0 and "generational" or "incremental")
    collectgarbage()
end
print("closures", total)

local coroutines = {}
for i = 1, 3000 do
    coroutines[i] = coroutine.create(function(n) while true do n = coroutine.yield(n * i) end end)
end
total = 0
for round = 1, 5 do
    for i = 1, #coroutines do total = total + select(2, coroutine.resume(coroutines[i], round)) end
end
print("coroutines", total)
local big = string.rep("lucid ", 100000)
for i = 1, 20 do big = big:sub(i * 100) .. big:sub(1, i * 500):upper() end
print("big", #big, sum_of(big:sub(-50000)))
