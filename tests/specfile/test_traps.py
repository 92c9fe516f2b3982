"""Lines that are valid and would do something else than they say: mistakes and warnings with the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.model.spec import ReadySpec
from reconciler.specfile.commands import shell_syntax, split
from reconciler.specfile.loading import read_spec
from tests.specfile.files import errors_of, loaded, only_error, place, spec_of, watcher_of

if TYPE_CHECKING:
    from reconciler.model.errors import SpecError
    from tests.specfile.files import Folder


def told(error: SpecError) -> str:
    return f"{error.message} ({error.hint})"


def warnings_of(folder: Folder, text: str, **environ: str) -> tuple[SpecError, ...]:
    outcome = read_spec(folder.write(spec=text), environ)
    assert not outcome.errors, outcome.errors
    return tuple(each for each in outcome.warnings if "cannot trust" not in each.message)


# ---- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("python3 x.py \\\n  --name a\n", ["python3", "x.py", "--name", "a"]),
        ("python3 x.py \\\r\n  --name a", ["python3", "x.py", "--name", "a"]),
        ("one\\\ntwo", ["onetwo"]),
        ('"one\\\ntwo"', ["onetwo"]),
        ("'one\\\ntwo'", ["one\\\ntwo"]),
        ("a 'b c' \"d\ne\" f\\ g", ["a", "b c", "d\ne", "f g"]),
        ("a '' \"\"b c'd'\"e\"f \\\n", ["a", "", "b", "cdef"]),
        ('"\\a \\" \\\\ \\`"', ['\\a " \\ `']),
    ],
)
def test_a_command_is_split_as_a_shell_does(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_an_escaped_dollar_sign_is_one_within_double_quotes_too() -> None:
    text = r"""watchers: {a: {cmd: 'sh -c "echo \$HOME \${HOME} $$HOME" \${x}'}}"""
    assert watcher_of(text).cmd == ("sh", "-c", "echo $$HOME $${HOME} $$HOME", "$${x}")


@pytest.mark.parametrize(("cmd", "column"), [("run 'a b", 25), ("run a\\", 26), ('run "a', 25)])
def test_a_command_that_cannot_be_split_is_told_where(cmd: str, column: int) -> None:
    error = only_error(f"watchers: {{a: {{cmd: {cmd}}}}}")
    assert place(error) == (1, column, "watchers.a.cmd")


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("echo one && echo two", 9, "'&&' needs a shell"),
        ("a || b", 2, "'||'"),
        ("ps | grep x", 3, "'|'"),
        ("run > out", 4, "'>'"),
        ("run 2>&1", 4, "'2>&1'"),
        ("run >>out", 4, "'>>'"),
        ("cat < in", 4, "'<'"),
        ("a; b", 1, "';'"),
        ("serve &", 6, "'&'"),
        ("echo $(date)", 5, "'$(' needs a shell"),
        ("echo `date`", 5, "'`' needs a shell"),
        ("cd /srv", 0, "'cd' is a command of the shell, not a program (write: working_dir)"),
        ("exec serve", 0, "leave it out"),
        ("export A=1", 0, "write: env"),
        ("FOO=bar run", 0, "(write: env: {FOO: ...})"),
        ("(a b)", 0, "'('"),
        ("! run", 0, "'!'"),
        ("{ a; }", 0, "'{'"),
        ("[[ -f x ]]", 0, "'[['"),
        ("set -e", 0, "'set'"),
        ("source venv/bin/activate", 0, "virtualenv:"),
        ("run $'a\\tb'", 4, "(write: shell: bash)"),
        ("echo one\necho two\n", 8, "the line break ends a command"),
    ],
)
def test_what_only_a_shell_understands_is_a_mistake(text: str, offset: int, words: str) -> None:
    found = shell_syntax(text)[0]
    assert (found.offset, found.is_certain) == (offset, True)
    assert words in f"{found.message} ({found.hint})"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("curl http://h/?a=1&b=2", "'&'"),
        ("find . -name *.py", "'*'"),
        ("ls ~/bin", "'~'"),
        ("ls ~app/bin", "'~'"),
        ("ls /var/log/app.log.?", "'?'"),
        ("ls file?.txt", "'?'"),
        ("cp x.{a,b}", "'{a,b}'"),
        ("run w{1..3}", "'{1..3}'"),
        ("run $1", "'$1'"),
        ('run "$@"', "'$@'"),
        ("echo $FOO", "'$FOO'"),
        ('perl -e "print $x"', "'$x'"),
        ("echo a #b", "'#'"),
    ],
)
def test_what_may_be_meant_as_it_stands_is_a_warning(text: str, what: str) -> None:
    (found,) = shell_syntax(text)
    assert not found.is_certain
    assert found.message.startswith(f"{what} is passed to the program as it is written")


@pytest.mark.parametrize(
    "text",
    [
        "echo 'a && b' \"c | d\" e\\;f",
        'sh -c "echo $HOME > x; test -e y && z"',
        'env A=1 bash -lc "echo $(date) `id`"',
        "nginx -g 'daemon off;'",
        "run --port ${PORT:-80} --price 5$$ ${x:-a|b}",
        "echo '$HOME' \\$HOME",
        "python3 x.py \\\n  --name a\n",
        "serve --bind [::]:80 --match ^a.b$ --share=50% -x!",
        "minio server /data{1...4}",
        "curl http://h/?a=1 localhost/health?full=1",
        "git log HEAD~3..HEAD uvicorn[standard] [ -f x ]",
        "find . -exec run {} +",
        "consul agent -bind {{ GetPrivateIP }}",
        'su - app -c "cd /srv; exec run $X"',
    ],
)
def test_quoted_text_and_scripts_of_a_shell_are_left_alone(text: str) -> None:
    assert shell_syntax(text) == []


def test_the_mistake_points_at_what_needs_a_shell() -> None:
    error = only_error("watchers: {a: {cmd: echo one && echo two}}")
    assert place(error) == (1, 30, "watchers.a.cmd")
    assert error.hint == "write: shell: true, or put it into quotes"


def test_commands_other_than_cmd_are_told_to_call_the_shell() -> None:
    hooks = "hooks: {before_start: {cmd: a | b}}, stop: {cmd: c > d}"
    errors = errors_of(f"watchers: {{a: {{cmd: x, {hooks}, secrets: {{S: {{cmd: e; f}}}}}}}}")
    assert [told(each).count("write: sh -c '...'") for each in errors] == [1, 1, 1]


def test_with_a_shell_all_of_that_is_the_shells() -> None:
    text = "watchers: {a: {cmd: 'cd /x && echo $FOO | tee y', shell: true}}"
    assert watcher_of(text).cmd == ("cd /x && echo $FOO | tee y",)
    text = "defaults: {shell: bash}\nwatchers: {a: {cmd: 'A=1 run > out'}}"
    assert watcher_of(text).cmd == ("A=1 run > out",)


def test_a_list_of_words_is_left_alone_but_for_its_first() -> None:
    assert watcher_of('watchers: {a: {cmd: [echo, "&&", "*"]}}').cmd == ("echo", "&&", "*")
    assert "not a program" in only_error("watchers: {a: {cmd: [cd, x]}}").message


def test_folded_text_is_one_command_also_where_yaml_keeps_a_line_break(folder: Folder) -> None:
    text = "watchers:\n  a:\n    cmd: {}\n      run x\n        --a\n\n        --b $C\n"
    assert watcher_of(text.format(">-")).cmd == ("run", "x", "--a", "--b", "$C")
    assert "line break" in only_error(text.format("|")).message
    assert [each.field for each in warnings_of(folder, text.format(">"))] == ["watchers.a.cmd"]


@pytest.mark.parametrize(
    ("cmd", "columns"),
    [
        ('["python3 x.py"]', [22]),
        ("[/srv/run --port 80]", [22]),
        ("[run, --bind 0.0.0.0:80, x]", [27]),
        ("['/opt/my app/run', --name=a b, -c, print it, --sep ' ', --x --y]", []),
        ("[sh, -c, exec run --port 80]", []),
        ("[run, two words, --, --text with three words]", []),
    ],
)
def test_an_item_of_a_list_that_holds_several_words_is_a_warning(
    folder: Folder, cmd: str, columns: list[int]
) -> None:
    found = warnings_of(folder, f"watchers: {{a: {{cmd: {cmd}}}}}")
    assert [each.column for each in found] == columns


def test_a_known_variable_in_a_list_of_words_is_a_warning_unless_a_shell_gets_it(
    folder: Folder,
) -> None:
    text = 'watchers: {a: {cmd: [run, "--port=$PORT"]}, b: {cmd: [sh, -c, "echo $PORT"]}, c: {cmd: [awk, $NF]}}'
    (found,) = warnings_of(folder, text, PORT="80")
    assert (found.field, "'$PORT'" in found.message) == ("watchers.a.cmd", True)


# ---- variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("$(circus.sockets.web)", "write: ${sockets.web}"),
        ("$(circus.env.HOME)", "write: ${env.HOME}"),
        ("((circus.env.HOME))", "write: ${env.HOME}"),
        ("$(circus.wid)", "write: ${slot}"),
        ("%(ENV_HOME)s", "write: ${env.HOME}"),
        ("%(process_num)02d", "write: ${slot:02}"),
        ("%(process_num)s", "write: ${slot}"),
        ("%(program_name)s", "write: ${watcher}"),
        ("%(here)s/run", "paths are relative"),
        ("{{.PC_REPLICA_NUM}}", "write: ${slot}"),
    ],
)
@pytest.mark.parametrize(
    "field", ["cmd: 'x {}'", "cmd: x, env: {{A: '{}'}}", "cmd: x, working_dir: '{}'"]
)
def test_variables_of_other_tools_are_mistakes_with_ours(text: str, hint: str, field: str) -> None:
    error = only_error(f"watchers: {{a: {{{field.format(text)}}}}}")
    assert "means nothing here" in error.message
    assert hint in error.hint


def test_formats_of_programs_are_no_variables_of_other_tools() -> None:
    text = "watchers: {a: {cmd: \"gunicorn --access-logformat '%(h)s %(s)s' --tmpl '{{.Name}}'\"}}"
    assert watcher_of(text).cmd[2:3] == ("%(h)s %(s)s",)


def test_an_unbraced_variable_outside_of_commands_is_a_warning(folder: Folder) -> None:
    text = "watchers: {a: {cmd: x, env: {P: $HOME/bin, PASS: pa$sword}, working_dir: $HOME}}"
    found = warnings_of(folder, text, HOME="/h")
    assert [each.field for each in found] == ["watchers.a.env.P", "watchers.a.working_dir"]
    assert all("${env.HOME}" in each.hint for each in found)


@pytest.mark.parametrize("own", ["env: {PORT: 1}", "env_file: [x.env]", "inherit_env: [PORT]"])
def test_a_default_that_hides_the_processes_own_variable_is_a_warning(
    folder: Folder, own: str
) -> None:
    folder.write(x_env="PORT=5\n")
    text = f"watchers: {{a: {{cmd: 'sh -c \"x ${{PORT:-3000}}\"', {own}}}}}"
    (found,) = warnings_of(folder, text)
    assert "means a variable of vars:, not the process's own PORT" in found.message
    assert "$${PORT:-...}" in found.hint
    assert warnings_of(folder, f"vars: {{PORT: 2}}\n{text}") == ()


def test_the_processes_own_variable_without_a_default_is_a_mistake_with_the_cure() -> None:
    text = "watchers: {a: {cmd: 'sh -c \"echo ${GREET}\"', env: {GREET: hi}}}"
    assert "$${GREET}" in only_error(text).hint


def test_a_default_written_as_elsewhere_is_told_in_ours() -> None:
    assert "${PORT:-...}" in only_error("watchers: {a: {cmd: 'x ${PORT-3000}'}}").hint


def test_a_reference_that_may_be_the_programs_own_is_told_how_to_reach_it() -> None:
    error = only_error(
        "watchers: {a: {cmd: \"node -e 'for (const i of [1]) console.log(`${i}`)'\"}}"
    )
    assert "write $${i}" in error.hint


# ---- environment ----------------------------------------------------------------------------------


def test_null_takes_a_variable_away_that_a_wider_level_sets(folder: Folder) -> None:
    text = "env: {A: all, B: all}\ndefaults: {env: {C: d}}\nwatchers: {w: {cmd: x, env: {A: null, C: ~, D: }}}"
    assert watcher_of(text).env == {"A": None, "B": "all", "C": None, "D": None}
    assert watcher_of('watchers: {w: {cmd: x, env: {A: "null", B: ""}}}').env == {
        "A": "null",
        "B": "",
    }


def test_a_value_in_quotes_may_go_over_several_lines(folder: Folder) -> None:
    folder.write(x_env="KEY=\"-----BEGIN\nAAA\n-----END\"\r\nB='one\ntwo' # comment\nC=3\n")
    (path,) = folder.write(spec="watchers: {w: {cmd: x, env_file: [x.env]}}")
    env = loaded(path).spec.watchers["w"].env
    assert env == {"KEY": "-----BEGIN\nAAA\n-----END", "B": "one\ntwo", "C": "3"}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [('A=1\nKEY="open\nB=2\nC=3\n', 2, 5), ("A=1\nB=2\nKEY='x' y\nC=3", 3, 5)],
)
def test_quotes_that_are_not_closed_are_one_mistake(
    folder: Folder, text: str, line: int, column: int
) -> None:
    folder.write(x_env=text)
    outcome = read_spec(folder.write(spec="watchers: {w: {cmd: x, env_file: [x.env]}}"), {})
    (error,) = outcome.errors
    assert place(error) == (line, column, "KEY")
    assert "secrets: {KEY: {file: ...}}" in error.hint


def test_a_value_of_several_lines_without_quotes_is_one_mistake(folder: Folder) -> None:
    folder.write(x_env="A=1\nKEY=-----BEGIN\nAA+/\nBB+/\n-----END\nC=3\nD\n")
    outcome = read_spec(folder.write(spec="watchers: {w: {cmd: x, env_file: [x.env]}}"), {})
    assert [(each.line, "in quotes" in each.hint) for each in outcome.errors] == [
        (3, True),
        (7, True),
    ]
    assert "inherit_env" in outcome.errors[1].hint


def test_a_reference_in_an_environment_file_is_a_warning(folder: Folder) -> None:
    text = """U=me\nA=db://${U}:${W:-x}@h\nB="$U"\nC='${U}'\nD=pa$$word$x^${\nE="\\${U}"\n"""
    folder.write(x_env=text)
    found = warnings_of(
        folder, "watchers: {w: {cmd: x, env_file: [x.env]}, v: {cmd: x, env_file: [x.env]}}"
    )
    assert [(each.line, each.message.split()[3]) for each in found] == [
        (2, "U"),
        (2, "W"),
        (3, "U"),
    ]
    assert all("${env." in each.hint and not each.excerpt for each in found)


def test_a_backslash_that_escapes_nothing_stays_in_a_value(folder: Folder) -> None:
    folder.write(x_env='A="^\\d+\\\\.\\"$"\nB="a\\tb\\`"\nC=\\d\n')
    (path,) = folder.write(spec="watchers: {w: {cmd: x, env_file: [x.env]}}")
    env = loaded(path).spec.watchers["w"].env
    assert env == {"A": '^\\d+\\."$$', "B": "a\tb`", "C": "\\d"}


# ---- files and YAML -------------------------------------------------------------------------------


def test_what_an_included_file_defaults_holds_for_its_own_watchers(folder: Folder) -> None:
    main = "include: [conf/*.yaml]\ndefaults: {labels: {m: '1'}}\nenv: {A: main, B: main}\nwatchers: {main: {cmd: x}}"
    a = "defaults: {working_dir: /, labels: {a: '1'}, env: {C: a}}\nenv: {B: a}\nwatchers: {a: {cmd: x}}"
    b = "watchers: {b: {cmd: x, labels: {}}}"
    path = folder.write(main=main, conf__a=a, conf__b=b)[0]
    watchers = loaded(path).spec.watchers
    assert watchers["main"].labels == {"m": "1"}
    assert watchers["main"].env == {"A": "main", "B": "main"}
    assert (watchers["a"].working_dir, watchers["a"].labels) == ("/", {"m": "1", "a": "1"})
    assert watchers["a"].env == {"A": "main", "B": "a", "C": "a"}
    assert watchers["b"].working_dir != "/"
    assert watchers["b"].labels == {}


def test_an_empty_map_takes_nothing_from_the_defaults() -> None:
    text = "defaults: {stop: {timeout: 1s}, labels: {a: b}}\nwatchers: {w: {cmd: x, stop: {}, labels: {}}}"
    watcher = watcher_of(text)
    assert (watcher.stop.timeout, watcher.labels) == (10 * 10**9, {})


def test_a_mistake_in_the_defaults_of_an_included_file_is_told_once(folder: Folder) -> None:
    paths = folder.write(
        main="include: [a.yaml]\nwatchers: {m: {cmd: x}}",
        a="defaults: {numproceses: 2}\nwatchers: {a: {cmd: x}, b: {cmd: y}}",
    )
    (error,) = read_spec(paths[:1], {}).errors
    assert place(error) == (1, 12, "defaults.numproceses")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("watchers: {a: {cmd: sleep ${x-t}, x-t: 5}}", 21),
        ("watchers: {b: {cmd: run --port 80${slot}, numprocesses: 2}}", 21),
        ("watchers: {b: {cmd: [run, 80${slot}]}}", 27),
        ("watchers: {b: {env: {P: ${slot}}}}", 25),
    ],
)
def test_a_variable_without_quotes_in_a_flow_map_is_told_as_such(text: str, column: int) -> None:
    error = only_error(text)
    assert (error.line, error.column) == (1, column)
    assert (
        told(error)
        == 'text with ${...} needs quotes inside of { } and [ ] (put it into quotes: "...${...}...")'
    )


def test_two_merges_in_one_map_are_a_mistake() -> None:
    text = "x-a: &a {cmd: one}\nx-b: &b {cmd: two}\nwatchers:\n  w:\n    <<: *a\n    <<: *b\n"
    error = only_error(text)
    assert (error.line, "'<<' is given twice" in error.message) == (6, True)
    assert "<<: [*a, *b]" in error.hint


# ---- words and values of other tools --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sockets: {a: {listen: /run/x.sock}}", "write: unix:/run/x.sock"),
        ("sockets: {a: {listen: 'unix:///run/x.sock'}}", ""),
        ("sockets: {a: {listen: ':8080'}}", "write: 8080, or 0.0.0.0:8080"),
        ("sockets: {a: {listen: '*:8080'}}", "write: 8080"),
        ("sockets: {a: {listen: 'tcp://127.0.0.1:80'}}", "write: 127.0.0.1:80"),
        ("sockets: {a: {listen: localhost}}", "write: localhost:PORT"),
        ("sockets: {a: {listen: 'unix:x.sock'}}", "whole path"),
        ("watchers: {a: {cmd: x, stop: {signal: 2}}}", "write: INT"),
        ("watchers: {a: {cmd: x, stop: {signal: '9'}}}", "write: KILL"),
        ("watchers: {a: {cmd: x, shell: bash -c}}", "write: shell: bash"),
        ("watchers: {a: {cmd: x, reload: HUP}}", "write: {signal: HUP}"),
        ("watchers: {a: {cmd: x, reload: kill -HUP 1}}", "write: {cmd: kill -HUP 1}"),
        ("watchers: {a: {cmd: x, stop: INT}}", "write: {signal: INT}"),
        ("watchers: {a: {cmd: x, stop: 30s}}", "write: {timeout: 30s}"),
        ("watchers: {a: {cmd: x, logs: x.log}}", "write: {stdout: {file: x.log}}"),
        ("watchers: {a: {cmd: x, logs: {stdout: x.log}}}", "write: {file: x.log}"),
        ("watchers: {a: {cmd: x, logs: {stdout: /dev/null}}}", "write: {to: devnull}"),
        ("watchers: {a: {cmd: x, logs: {stderr: stdout}}}", "write: {to: stdout}"),
        ("watchers: {a: {cmd: x, hooks: {before_start: h.foo}}}", "write: {python: h.foo}"),
        ("watchers: {a: {cmd: x, hooks: {before_start: ./x y}}}", "write: {cmd: ./x y}"),
        ("watchers: {a: {cmd: x, max_restarts: 5}}", "write: {count: 5}"),
        ("watchers: {a: {cmd: x, backoff: 5s}}", "write: {initial: 5s}"),
        ("watchers: {a: {cmd: x, secrets: {PW: hunter2}}}", "never the value"),
        ("watchers: {a: {cmd: x, autostart: no}}", "write: false"),
        ("watchers: {a: {cmd: x, autostart: on}}", "write: true"),
        ("watchers: {a: {cmd: x, backoff: {initial: 5 minutes}}}", "write: 5m"),
        ("watchers: {a: {cmd: x, backoff: {initial: 5}}}", "write: 5s"),
        ("watchers: {a: {cmd: x, logs: {max_size: 100M}}}", "write: 100MiB"),
        ("apply: {max_removal: 50}", "write: 50%"),
        ("watchers: {a: {cmd: x, env: {A: {b: c}}}}", "holds one text"),
        ("watchers: {a: {cmd: x, user: 'www:data'}}", "write: user: www, group: data"),
        ("watchers: {a: {cmd: x, limits: {memory: 512M}}}", "write: max_memory: 512MiB"),
        ("watchers: {a: {cmd: x, on-failure: restart}}", "write: restart: on-failure"),
        ("watchers: {a: {cmd: x, max_memory_restart: 100M}}", "write: limits: {max_memory: 512MiB}"),
        ("watchers: {a: {cmd: x, availability: {restart: always}}}", "write: restart"),
        ("watchers: {a: {cmd: x, is_tty: true}}", "write: stdin: pty"),
        ("watchers: {a: {cmd: x, log_location: x}}", "write: logs"),
        ("watchers: {a: {cmd: x, ports: [80]}}", "listens by itself"),
        ("watchers: {a: {cmd: x, Environment: A=1}}", "write: env"),
        ("watchers: {a: {cmd: x, after: [b]}}", "write: depends_on: [NAME]"),
        ("watchers: [{name: web, cmd: x}]", "without the dash"),
        ("watchers: {a: {cmd: x, stdin: tty}}", "write: pty"),
        ("watchers: {a: {cmd: x, stdin: file}}", "write: {file: PATH}"),
        ("watchers: {a: {cmd: x, limits: {max_memory: 512}}}", "write: 512MiB, when mebibytes are meant"),
        ("watchers: {a: {cmd: x, logs: {max_size: 1048576}}}", "write: 1048576B"),
        ("watchers: {a: {cmd: x, limits: {max_cpu: 1.5}}}", "write: 150%, when 1.5 processors are meant"),
        ("watchers: {a: {cmd: x, limits: {cgroup: {cpu_max: '2'}}}}", "write: 200%, when 2 processors are meant"),
        ("watchers: {a: {cmd: x, limits: {max_cpu: 50}}}", "write: 50%"),
        ("watchers: {a: {cmd: x, ready: tcp}}", "write: {tcp: 5432}"),
        ("watchers: {a: {cmd: x}, b: {cmd: x, depends_on: {a: service_healthy}}}", "write: ready"),
        ("watchers: {a: {cmd: x}, b: {cmd: x, depends_on: {a: {condition: service_started}}}}", "mean 'started'"),
        ("watchers: {a: {cmd: x}, b: {cmd: x, depends_on: {a: redy}}}", "did you mean 'ready'"),
        ("watchers: {a: {cmd: x, ready: {notify: yes}}}", "write: true"),
        ("watchers: {a: {cmd: x, ready: {log: up}, logs: {stdout: {to: jornal}}}}", "did you mean 'journal'"),
    ],
)  # fmt: skip
def test_what_other_tools_take_is_told_in_ours(text: str, words: str) -> None:
    if not words:
        spec_of(text)
        return
    error = only_error(text)
    assert words in error.hint
    assert "hunter2" not in f"{error.hint} {error.message} {error.excerpt}"


def test_a_word_that_is_not_near_is_not_suggested() -> None:
    assert only_error("watchers: {a: {cmd: x, on-checks: 1}}").hint == ""


def test_sizes_are_understood_wherever_bytes_are_meant() -> None:
    limits = watcher_of(
        "watchers: {a: {cmd: x, limits: {as: 512MiB, core: 0, stack: {soft: 8MiB, hard: unlimited}, data: unlimited}}}"
    ).limits
    assert (limits.as_, limits.core, limits.data) == (512 * 2**20, 0, "unlimited")
    error = only_error("watchers: {a: {cmd: x, limits: {core: {soft: 2MiB, hard: 1MiB}}}}")
    assert "is above the hard limit" in error.message


def test_the_priority_of_supervisor_is_a_warning(folder: Folder) -> None:
    (found,) = warnings_of(folder, "watchers: {a: {cmd: x, priority: 999}}")
    assert "a lower priority starts first" in found.message
    assert warnings_of(folder, "watchers: {a: {cmd: x, priority: 10}}") == ()


@pytest.mark.parametrize(
    ("command", "starter"),
    [
        ("{shell: true, cmd: cd . && python3 server.py}", "the shell"),
        ("{shell: bash, cmd: gunicorn wsgi:app}", "the shell"),
        ("{cmd: npm start}", "npm"),
        ("{cmd: /usr/bin/timeout 99 gunicorn wsgi:app}", "timeout"),
        ("{cmd: [su, app, -c, gunicorn]}", "su"),
        ("{cmd: [sh, -c, gunicorn, x]}", "sh"),
        ("{shell: true, cmd: exec gunicorn wsgi:app}", ""),
        ("{shell: true, cmd: cd . && exec python3 server.py}", ""),
        ("{shell: true, cmd: 'gunicorn --bind fd://${sockets.http}'}", ""),
        ('{shell: true, cmd: gunicorn, env: {FD: "${sockets.http}"}}', ""),
        ("{cmd: npm start, use_sockets: []}", ""),
        ("{cmd: env A=b gunicorn wsgi:app}", ""),
        ('{cmd: [sh, -c, "exec gunicorn", x]}', ""),
    ],
)
def test_a_command_behind_a_starter_that_gets_sockets_by_listen_fds_is_warned_of(
    folder: Folder, command: str, starter: str
) -> None:
    text = f"{command[:-1]}, use_sockets: [http]}}" if "use_sockets" not in command else command
    found = warnings_of(folder, f"sockets: {{http: {{listen: 8000}}}}\nwatchers: {{web: {text}}}\n")
    assert [f"is the process of {starter}," in each.message for each in found] == [True] * bool(
        starter
    )
    assert all("pass ${sockets.http}" in each.hint for each in found)
    assert all(("exec" in each.hint) == (starter in {"the shell", "sh"}) for each in found)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ("use_sockets: [http], pid_file: /run/g.pid", "pid_file"),
        ("use_sockets: [http], reload: {signal: USR2}", "reload.signal"),
        ("use_sockets: [http], reload: {signal: SIGUSR2}, pid_file: a", "reload.signal"),
        ("env: {BIND: 'fd://${sockets.http}'}, pid_file: a", "pid_file"),
        ("pid_file: /run/g.pid", None),
        ("use_sockets: [http]", None),
        ("use_sockets: [http], reload: {signal: HUP}", None),
    ],
)
@pytest.mark.parametrize("cmd", ["/venv/bin/gunicorn app:app", "python3 -m gunicorn app:app"])
def test_gunicorn_is_warned_that_it_cannot_replace_itself_on_an_inherited_socket(
    folder: Folder, fields: str, field: str | None, cmd: str
) -> None:
    text = "sockets: {http: {listen: '8000'}}\nwatchers: {g: {cmd: %s, %s}}"
    found = warnings_of(folder, text % (cmd, fields))
    assert [each.field for each in found] == ([f"watchers.g.{field}"] if field else [])
    assert all("gunicorn cannot replace itself (USR2)" in each.message for each in found)
    assert warnings_of(folder, text % ("nginx", fields)) == ()


@pytest.mark.parametrize(
    ("logs", "fields"),
    [
        ("stdout: {to: journal}", ["timestamps"]),
        ("stdout: {to: syslog}, stderr: {to: journal}", ["timestamps"]),
        ("stdout: {to: journal}, stderr: {file: /tmp/err}", []),
        ("stderr: {to: journal}", []),
    ],
)
def test_times_that_a_log_daemon_has_itself_are_a_warning(
    folder: Folder, logs: str, fields: list[str]
) -> None:
    text = f"watchers: {{web: {{cmd: x, logs: {{timestamps: true, {logs}}}}}}}"
    found = [each.field for each in warnings_of(folder, text)]
    assert found == [f"watchers.web.logs.{each}" for each in fields]


def test_the_file_of_a_pid_is_beside_the_spec(folder: Folder) -> None:
    text = "watchers: {a: {cmd: x, pid_file: 'run/${slot}.pid', numprocesses: 2}}"
    (path,) = folder.write(spec=text)
    assert loaded(path).spec.watchers["a"].pid_file == f"{folder.path}/run/${{slot}}.pid"


@pytest.mark.parametrize(
    ("cmd", "is_warned"),
    [("nginx -g 'daemon off;'", True), ("setpriv --reuid 1 /usr/sbin/nginx", True), ("app", False)],
)
def test_a_server_that_never_says_that_it_is_ready_is_warned_of(
    folder: Folder, cmd: str, is_warned: bool
) -> None:
    found = warnings_of(folder, f'watchers: {{w: {{cmd: "{cmd}", ready: {{notify: true}}}}}}')
    told = ["watchers.w.ready.notify: nginx never sends READY=1 (sd_notify)"]
    assert [f"{each.field}: {each.message}" for each in found] == told * is_warned
    assert warnings_of(folder, f'watchers: {{w: {{cmd: "{cmd}", ready: {{tcp: 80}}}}}}') == ()


def test_what_a_watcher_is_asked_displaces_what_defaults_say(folder: Folder) -> None:
    text = "defaults: {ready: {tcp: 80}}\nwatchers: {w: {cmd: x, ready: {notify: true}}}"
    (path,) = folder.write(spec=text)
    assert loaded(path).spec.watchers["w"].ready == ReadySpec(notify=True)
    both = "watchers: {w: {cmd: x, ready: {notify: true, tcp: 80}}}"
    (path,) = folder.write(spec=both)
    assert loaded(path).spec.watchers["w"].ready == ReadySpec(notify=True, tcp="80")
