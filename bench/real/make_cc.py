"""Write a C++ program that makes the compiler instantiate many templates: make_cc.py CLASSES."""

import random
import sys

rng = random.Random(1)
HEAD = """
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct number { int value = N; };
"""
CLASS = """
struct item{n} {{
    std::string name;
    std::vector<number<{n}>> numbers;
    std::variant<int, std::string, number<{n}>> other;
    bool operator<(const item{n} &that) const {{ return name < that.name; }}
}};
using index{n} = std::{index}<{key}, std::shared_ptr<item{n}>>;
int work{n}(int count) {{
    index{n} index;
    std::vector<item{n}> items;
    for (int i = 0; i < count; i++) {{
        auto item = std::make_shared<item{n}>();
        item->name = std::to_string(i * {factor});
        item->numbers.resize({size});
        if (i % 3 == 0) item->other = item->name;
        index[{make_key}] = item;
        items.push_back(*item);
    }}
    std::{sort}(items.begin(), items.end());
    std::set<item{n}> set(items.begin(), items.end());
    std::function<int(const item{n} &)> measure = [&](const item{n} &item) {{
        return int(item.numbers.size()) + (std::holds_alternative<int>(item.other) ? 1 : 2);
    }};
    int sum = 0;
    for (auto &item : set) sum += measure(item);
    for (auto &[key, item] : index) sum += measure(*item);
    return sum;
}}
"""


def main():
    count = int(sys.argv[1])
    print(HEAD)
    for n in range(count):
        key, make_key = rng.choice([("int", "i"), ("std::string", "item->name")])
        print(CLASS.format(n=n, key=key, make_key=make_key, factor=rng.randrange(2, 99),
                           size=rng.randrange(1, 9), index=rng.choice(["map", "unordered_map"]),
                           sort=rng.choice(["sort", "stable_sort"])))
    calls = " + ".join(f"work{n}({n + 5})" for n in range(count))
    print(f"int main() {{ return ({calls}) & 127; }}")


main()
