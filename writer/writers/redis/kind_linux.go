package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/owner"
	"golang.org/x/sys/unix"
)

// Kind is the writer kind "redis". Its configuration names a server by
// {"socket": "/run/redis/redis.sock"}, {"address": "127.0.0.1:6379"} or
// {"directory": "/var/lib/redis"}; see docs/writers/redis.md for the rest. The
// zero Kind is ready for use, by several goroutines at once.
type Kind struct{}

var _ writer.Kind = Kind{}

// Name implements [writer.Kind].
func (Kind) Name() string { return KindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// New implements [writer.Kind]. It connects to the server and looks at how that
// keeps its data. In a restore there may be no server.
func (Kind) New(ctx context.Context, s writer.Spec) (writer.Writer, error) {
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	if c.Found == nil {
		c.Found = new(found)
	}
	if err := checkDir(c.Directory); err != nil {
		return nil, err
	}
	w := &redisWriter{conf: c, spec: s, instance: vss.NewGUID(), turn: make(chan struct{}, 1)}
	if c.Found.Restore {
		w.facts = facts{restore: true, names: c.Found.Stored.names(), aof: c.Found.Stored.AOF}
		return w, nil
	}
	if err := errors.Join(checkOwner(c.Directory), owner.Closed(c.Directory)); err != nil {
		return nil, err
	}
	var err error
	if w.facts, err = learn(ctx, s, c); err != nil {
		if s.Discovered && (errors.Is(err, errSentinel) || errors.Is(err, errNoServer) && !alive(c.Found.PID)) {
			return nil, fmt.Errorf("%w: %w", writer.ErrNotMine, err)
		}
		return nil, fmt.Errorf("the Redis server of %s: %w", c.Directory, err)
	}
	return w, nil
}

// checkOwner makes sure that the directory belongs to this process's user: else
// anybody could claim another's files by running a server in his directory.
func checkOwner(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	var u unix.Stat_t
	if err := unix.Lstat(dir, &u); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if !st.IsDir() || int(u.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is no directory of user id %d, as which the server runs", dir, os.Geteuid())
	}
	return nil
}

// names are those of the server's files.
type names struct {
	rdb     string // of the RDB file
	aofDir  string // directory of the append-only file, below that of the data
	aofBase string // how the names of its files begin
}

// defaultNames are the server's defaults.
func defaultNames() names { return names{"dump.rdb", "appendonlydir", "appendonly.aof"} }

func (n names) check() error {
	return errors.Join(checkName(n.rdb), checkName(n.aofDir), checkName(n.aofBase))
}

// facts are what a writer's document is made of. They are found out once.
type facts struct {
	names   names
	version string
	aof     bool // it keeps an append-only file
	// Without one: whether it saves by itself, and how long a save may take.
	saves bool
	save  time.Duration
	weak  string
	// crash: Freeze gives no more than the last save.
	crash bool
	// stopped: no server runs, its files are still by themselves.
	stopped bool
	restore bool
}

var (
	errSentinel = errors.New("it is a sentinel, which has no data")
	errCluster  = errors.New("it is a node of a cluster, whose data is in several servers; that is not supported: name its files by --as-plain-files, or stop it for the backup")
	errVersion  = errors.New("no test has met this version; set any_version: true in the configuration of the writer to have it served all the same")
)

// version is what tests have met.
const version = "7.0."

// learn finds out how a server keeps its data, and refuses what is not supported.
func learn(ctx context.Context, spec writer.Spec, c config) (facts, error) {
	s, err := connect(ctx, c)
	if err != nil {
		pid, perr := runningIn(spec, c)
		if perr == nil && pid == 0 && !spec.Discovered {
			return stoppedFacts(c)
		}
		return facts{}, errors.Join(err, perr)
	}
	defer s.close()
	i, err := s.info(ctx, "server", "replication", "cluster", "persistence", "memory", "keyspace")
	if err != nil {
		return facts{}, err
	}
	if err := supported(i, c); err != nil {
		return facts{}, err
	}
	f, err := s.persistence(ctx)
	if err != nil {
		return facts{}, err
	}
	f.version = i["redis_version"]
	return f, f.judge(c, i, spec.Discovered)
}

// persistence asks how the server keeps its data.
func (s *server) persistence(ctx context.Context) (facts, error) {
	var f facts
	for name, to := range map[string]*string{"dbfilename": &f.names.rdb, "appenddirname": &f.names.aofDir, "appendfilename": &f.names.aofBase} {
		var err error
		if *to, err = s.setting(ctx, name); err != nil {
			return f, err
		}
	}
	if err := f.names.check(); err != nil {
		return f, err
	}
	aof, err := s.setting(ctx, "appendonly")
	if err != nil {
		return f, err
	}
	save, err := s.setting(ctx, "save")
	f.aof, f.saves = aof == "yes", save != ""
	return f, err
}

// supported says what of a server is not supported.
func supported(i info, c config) error {
	switch {
	case i["redis_mode"] == "sentinel":
		return errSentinel
	case i["redis_mode"] == "cluster" || i["cluster_enabled"] == "1":
		return errCluster
	case i["role"] != "master":
		return fmt.Errorf("it is a replica of %s:%s, which writes to it whatever it is asked; back up that one", i["master_host"], i["master_port"])
	case i["loading"] != "0":
		return errors.New("it is loading its data; try again when it has")
	case len(i["redis_version"]) < len(version) || i["redis_version"][:len(version)] != version:
		if !c.AnyVersion {
			return fmt.Errorf("it is version %.40q: %w", i["redis_version"], errVersion)
		}
	}
	return nil
}

// saveRate is how much of a server's memory is taken to be saved a second, where it
// has not saved yet: less than a slow disk takes.
const saveRate = 40 << 20

// saveLimit is the longest that writes may be held for a save: 10 s, or half a
// second for a server that nobody configured, unless the configuration says
// otherwise.
func (c *config) saveLimit(discovered bool) (time.Duration, error) {
	if c.SaveLimit == "" {
		if discovered {
			return 500 * time.Millisecond, nil
		}
		return 10 * time.Second, nil
	}
	d, err := time.ParseDuration(c.SaveLimit)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("configuration of a %s writer: save_limit %q is no time such as 10s", KindName, c.SaveLimit)
	}
	return d, nil
}

// judge decides what Freeze can give a server without an append-only file.
func (f *facts) judge(c config, i info, discovered bool) error {
	if f.aof {
		return nil
	}
	if !f.saves {
		f.crash = true
		f.weak = `persistence is off (appendonly no, save ""): what the server holds is in no file, and not in the backup`
		return nil
	}
	limit, err := c.saveLimit(discovered)
	if err != nil {
		return err
	}
	if f.save, err = estimate(i); err != nil {
		return err
	}
	if f.save > limit {
		f.crash = true
		f.weak = fmt.Sprintf("crash-consistent: the backup has the server's last save; a new one would hold writes for some %v, the limit is %v (save_limit), and there is no append-only file",
			f.save.Round(time.Second/10), limit)
	}
	return nil
}

// estimate tells how long a save takes: as long as the last one did, which the
// server knows in whole seconds, but no longer than its memory needs at a rate that
// any disk has.
func estimate(i info) (time.Duration, error) {
	n, err := i.numbers("rdb_last_bgsave_time_sec", "used_memory_dataset")
	if err != nil {
		return 0, err
	}
	bySize := time.Duration(float64(n[1]) / saveRate * float64(time.Second))
	if n[0] < 0 {
		return bySize, nil
	}
	return min(bySize, time.Duration(n[0]+1)*time.Second), nil
}

// stoppedFacts are those of data whose server does not run: its files are still by
// nature.
func stoppedFacts(c config) (facts, error) {
	f := facts{names: defaultNames(), stopped: true, saves: true}
	files, err := settingsFiles(c.Directory, c.Found.Args)
	for _, file := range files {
		f.names = namesIn(file.all)
	}
	if len(files) > 0 {
		err = nil // others' files do not matter
	}
	_, serr := os.Lstat(f.names.manifest(c.Directory))
	f.aof = serr == nil
	return f, errors.Join(err, f.names.check())
}

// namesIn gives the files' names by a configuration file.
func namesIn(all []directive) names {
	n := defaultNames()
	for name, to := range map[string]*string{"dbfilename": &n.rdb, "appenddirname": &n.aofDir, "appendfilename": &n.aofBase} {
		if args, ok := last(all, name); ok && len(args) == 1 {
			*to = args[0]
		}
	}
	return n
}
