"""Interpreters on the programs in programs/: the same output line by line, each line a checksum."""

import os

import realtest

HERE = os.path.dirname(os.path.abspath(__file__))


class Languages(realtest.RealTest):
    def compare(self, name, package, script, lines, env=None):
        """The interpreter on a script: both sides must print the same, in so many lines."""
        interpreter = realtest.program(name, package)
        path = os.path.join(HERE, "programs", script)

        def work(side, directory):
            return side.run([interpreter, path], directory, env=env, timeout=120).out.decode()
        self.assertEqual(len(self.assert_same(work).splitlines()), lines)

    def test_lua(self):
        self.compare("lua5.4", "lua5.4", "workload.lua", 6)

    def test_ruby(self):
        self.compare("ruby", "ruby", "workload.rb", 12)

    def test_bash(self):
        self.compare("bash", "bash", "workload.sh", 8)

    def test_node(self):
        self.compare("node", "nodejs", "workload.js", 4)

    def test_python(self):
        self.compare("python3", "python3", "workload.py", 5, {"PYTHONMALLOC": "malloc"})


if __name__ == "__main__":
    realtest.main()
