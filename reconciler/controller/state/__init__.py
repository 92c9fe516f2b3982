"""What must survive the controller: one database, one writer thread, and what is made of damage.

| file | subject |
|---|---|
| `commit_counter` | a small file that says how many commits there were |
| `history` | the history of applied specs as rows, and reading a content |
| `migrations` | from each former version of the state to the next one |
| `queries` | what is read later, when somebody asks |
| `reads` | the rows as what a new controller is told |
| `records` | what is given to the store and what a new controller is given back |
| `recovery` | the state is opened whatever became of it |
| `saving` | what is on its way to the disk, and what goes on then |
| `schema` | the tables, and how the database is opened |
| `seals` | sealed rows: what damage cannot pass off as true |
| `store` | sqlite3 and its writer thread |
| `writes` | each record as rows |
"""
