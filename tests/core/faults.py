"""Configurations that are wrong or odd, and what is made of each: `make faults` prints them, the tests run them.

A wrong one must be refused in one line that names the key; an odd one that can be trained must be accepted.
"""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from pipelines import params
from tests.faults import Outcome, report
from twinnet.core import config, stage
from twinnet.core.errors import TwinnetError
from twinnet.sweeps import expand

ROOT = Path(__file__).parents[2]
LIMIT = 10.0  # seconds for one configuration, on a machine that is busy
LONGEST = 700  # characters of an answer: every experiment of conf/ fits


@dataclass(frozen=True)
class Case:
    """What is tried, the parts of the line that must answer it, and how it is composed and checked."""

    tried: str
    parts: tuple[str, ...]  # none: it must be accepted
    check: Callable[[Path], object]  # given an empty folder


# ---------------------------------------------------------------------------------- overrides that are wrong

# Overrides of conf/train.yaml, and parts of the line that answers.
WRONG: list[tuple[str, ...]] = [
    # keys that do not exist, or not there
    ("epoch=1", "epoch: ", "use epochs"),
    ("+epoch=1", "epoch: ", "use epochs"),
    ("++epoch=1", "epoch: ", "use epochs"),
    ("optimiser=adam", "optimiser: ", "use optimizer"),
    ("learning_rate=0.1", "use optimizer.learning_rate"),
    ("optimizer.learing_rate=1", "use optimizer.learning_rate"),
    ("+optimizer.learing_rate=1", "use optimizer.learning_rate"),
    ("model.units=3", "use model.hidden_units"),
    ("+model.units=3", "use model.hidden_units"),
    ("model.filters=[3]", "model.filters: expected one of", "model.hidden_units"),
    ("data.image_shape=[28,28,1]", "data.image_shape: expected one of", "data.features"),
    ("data.nme=x", "use data.name"),
    ("tracking.foo=1", "tracking.foo: expected one of", "tracking.live_seconds"),
    ("augmentation.flp=true", "use augmentation.flip"),
    ("early_stopping.patence=3", "use early_stopping.patience"),
    ("optimizer.schedule.knd=cosine", "use optimizer.schedule.kind"),
    ("sed=3", "use seed"),
    ("batchsize=3", "use batch_size"),
    ("dropout=0.1", "use model.dropout"),
    ("x.y.z=1", "x: expected one of", "epochs"),
    ("hydra.foo=1", "hydra.foo"),
    ("~epoch", "epoch"),
    ("~nothing.at.all", "nothing"),
    # members that do not exist
    ("experiment=nba_scrach", "use experiment=nba_scratch"),
    ("experiment=nba", "experiment: expected one of", "received nba"),
    ("experiment=", "experiment: expected one of"),
    ("experiment=''", "experiment"),
    ("experiment=null", "experiment: expected one of", "received null"),
    ("experiment=5", "experiment: expected one of", "received 5"),
    ("experiment=true", "experiment: expected one of"),
    ("experiment=1.5", "experiment: expected one of"),
    ("experiment=[a,b]", "experiment"),
    ("experiment={a:1}", "experiment"),
    ("experiment=../train", "experiment"),
    ("experiment=/etc/passwd", "experiment"),
    ("+experiment=nba_keras", "experiment"),
    ("experiment@foo=nba_keras", "experiment"),
    ("~experiment", "experiment: expected one of", "removes"),
    ("optimizer=adm", "use optimizer=adam"),
    ("optimizer=lion", "optimizer: expected one of", "received lion"),
    ("optimizer=5", "optimizer: expected one of"),
    ("optimizer=null", "optimizer: expected one of"),
    ("+optimizer=adam", "optimizer"),
    ("~optimizer", "optimizer: expected one of", "removes"),
    ("model=residual", "model: expected one of", "mlp"),
    ("model=null", "model: expected one of"),
    ("model=5", "model: expected one of"),
    ("~model", "model: expected one of", "removes"),
    ("engine=scrach", "use engine=scratch"),
    ("engine=numpy", "engine: expected one of"),
    ("engine=null", "engine: expected one of"),
    ("~engine", "engine: expected one of"),
    ("data=nba_point", "use data=nba_points"),
    ("data=null", "data: expected one of"),
    ("~data", "data: expected one of"),
    ("profile=ful", "use profile=full"),
    ("profile=null", "profile: expected one of"),
    ("tracking=null", "tracking: expected one of", "none"),
    ("tracking=wandb", "tracking: expected one of"),
    # values of another type
    ("epochs=many", "epochs: expected a whole number", "many"),
    ("epochs=1.5", "epochs: expected a whole number"),
    ("epochs=1e3", "epochs: expected a whole number"),
    ("epochs=true", "epochs: expected a whole number"),
    ("epochs=''", "epochs: expected a whole number"),
    ("epochs={a:1}", "epochs"),
    ("~epochs", "epochs: expected a value"),
    ("seed=null", "seed: expected a value; received null"),
    ("optimizer.learning_rate=true", "optimizer.learning_rate: expected a number"),
    ("~optimizer.learning_rate", "optimizer.learning_rate"),
    ("optimizer.schedule=null", "optimizer.schedule: expected a value"),
    ("optimizer.schedule=5", "optimizer.schedule: expected the keys"),
    ("optimizer.schedule.kind=cosin", "optimizer.schedule.kind: expected one of", "use cosine"),
    ("early_stopping=null", "early_stopping: expected a value"),
    ("augmentation=null", "augmentation: expected a value"),
    ("limits=null", "limits: expected a value"),
    ("limits=5", "limits"),
    ("model.activation=swish", "model.activation: expected one of", "tanh"),
    ("model.activation=sigmod", "use sigmoid"),
    ("model.init=zeros", "model.init: expected one of"),
    ("model.batch_norm=perhaps", "model.batch_norm: expected true or false"),
    ("engine.array=jaxx", "use jax"),
    ("engine.dtype=float16", "engine.dtype: expected one of"),
    ("engine.dtype=5", "engine.dtype: expected one of"),
    ("device=7", "device: expected one of"),
    ("device=cuda", "device: expected one of"),
    ("loss=cross_entropy", "loss: expected one of"),
    ("data.task=classify", "data.task: expected one of"),
    ("data.scaling=minmax", "data.scaling: expected one of"),
    # grammar
    ("epochs", "expected key=value"),
    ("epochs==1", "expected key=value"),
    ("=1", "expected key=value"),
    ("epochs:1", "expected key=value"),
    ("model.hidden_units=[4", "expected key=value"),
    ("'description=\"unclosed'", "expected key=value"),
    ("epochs=1,2", "epochs: expected one value", "-m"),
    ("'seed=range(0,3)'", "seed: expected one value", "-m"),
    ("'seed=interval(0,3)'", "seed: expected one value"),
    ("experiment=nba_scratch,nba_keras", "experiment: expected one value"),
    ("'name=${nope}'", "nope"),
    ("'name=${name}'", "nterpolation"),
    ("'name=${oc.env:NO_SUCH_VARIABLE}'", "NO_SUCH_VARIABLE"),
    ("'epochs=${seed}'", "epochs: expected"),
    # names and paths
    ("name=../../x", "name: expected", "letters"),
    ("name=a/b", "name: expected", "letters"),
    ("name=/tmp/x", "name: expected"),
    ("name=", "name: expected"),
    ("name=''", "name: expected"),
    ("name=.", "name: expected"),
    ("name=..", "name: expected"),
    ("name=.hidden", "name: expected"),
    ("name=-m", "name: expected"),
    ("'name=a b'", "name: expected"),
    ("'name=a\tb'", "name: expected"),
    ("name=Dončić", "name=Dončić"),
    (f"name={'a' * 101}", "name: expected", "at most 100"),
    (f"name={'a' * 300}", "name: expected", "300 long"),
    ("data.name=../nba", "data.name: expected"),
    ("data.name=''", "data.name: expected"),
    ("data.file=../../../etc/passwd", "data.file: expected", "inside"),
    ("data.file=/etc/passwd", "data.file: expected", "inside"),
    ("data.file=''", "data.file: expected", "inside"),
    ("data.file=a/../../b.csv", "data.file: expected", "inside"),
    ("'description=\"a\x07b\"'", "description: expected a text without control characters"),
    # lists
    ("model.hidden_units=[[4,4]]", "model.hidden_units: expected a list"),
    ("model.hidden_units=[a]", "model.hidden_units", "whole number"),
    ("model.hidden_units=[4,0]", "model.hidden_units: expected a list", "[4, 0]"),
    ("model.hidden_units=[-4]", "model.hidden_units: expected a list"),
    ("model.hidden_units=[4.0]", "model.hidden_units", "whole number"),
    ("+epochs=3", "epochs", "+ prefix"),
    ("model.hidden_units=[1.5]", "model.hidden_units", "whole number"),
    ("model.hidden_units=[null]", "model.hidden_units"),
    ("model.hidden_units=4", "model.hidden_units: expected a list"),
    ("model.hidden_units=null", "model.hidden_units: expected a value"),
    ("model.hidden_units={a:1}", "model.hidden_units: expected a list"),
    (f"model.hidden_units=[{','.join(['4'] * 1001)}]", "model.hidden_units: expected a list", "1000"),
    ("model.hidden_units=[1000000000]", "model: expected", "4,000,000,001", "GB"),
    ("model.hidden_units=[100000,100000]", "model: expected", "10,000,500,001", "GB"),
    ("experiment=fashion_dense model.hidden_units=[10000000]", "model: expected", "7,950,000,010", "GB"),
    ("model.hidden_units=[100000000000000000000]", "model: expected", "GB"),
    ("data.features=[]", "data.features: expected a list of 1"),
    ("data.features=[[a]]", "data.features: expected a list"),
    ("data.features=[null]", "data.features"),
    ("\"data.features=['']\"", "data.features: expected a list"),
    ("data.features=[apg,apg]", "data.features: expected", "different"),
    ("data.features=apg", "data.features: expected a list"),
    ("data.features=[apg,is_forward]", "data.features: expected columns without data.target"),
    ("data.target=''", "data.target: expected"),
    ("data.split_by=''", "data.split_by: expected"),
    ("data.split_by=apg", "data.features: expected columns without data.split_by"),
    ("data.classes=[]", "data.classes: expected"),
    ("data.classes=[guard]", "data.classes", "two classes"),
    ("data.classes=[guard,guard]", "data.classes: expected", "different"),
    ("\"data.classes=[guard,'']\"", "data.classes: expected"),
    ("data.classes=[[guard],forward]", "data.classes: expected"),
    ("data.classes=null", "data.classes", "two classes"),
    ("data.classes=5", "data.classes: expected a list"),
    ("data.classes=[a,b,c]", "data.task=binary", "received 3", "multiclass"),
    ("experiment=nba_points data.classes=[a,b]", "data.classes: expected null"),
    ("experiment=fashion_cnn data.image_shape=[]", "data.image_shape: expected [height,width,channels]"),
    ("experiment=fashion_cnn data.image_shape=[28]", "data.image_shape: expected"),
    ("experiment=fashion_cnn data.image_shape=[28,28]", "data.image_shape: expected"),
    ("experiment=fashion_cnn data.image_shape=[28,28,1,1]", "data.image_shape: expected"),
    ("experiment=fashion_cnn data.image_shape=[28,0,1]", "data.image_shape: expected"),
    ("experiment=fashion_cnn data.image_shape=[28,-28,1]", "data.image_shape: expected"),
    ("experiment=fashion_cnn data.image_shape=[[28,28,1]]", "data.image_shape"),
    ("experiment=fashion_cnn data.image_shape=[1000000,1000000,1]", "data.image_shape: expected"),
    ("experiment=fashion_cnn model.filters=[]", "model.filters: expected a list of 1"),
    ("experiment=fashion_cnn model.filters=[0]", "model.filters: expected"),
    ("experiment=fashion_cnn model.filters=[[32]]", "model.filters: expected"),
    ("experiment=fashion_cnn model.filters=[32,32,32,32,32]", "model: expected pooling", "28 x 28", "model.filters"),
    ("experiment=fashion_cnn model.filters=[1000000,1000000]", "model: expected", "GB"),
    ("experiment=fashion_cnn model.dense_units=[0]", "model.dense_units: expected"),
    ("experiment=fashion_cnn model.dense_units=[a]", "model.dense_units"),
    ("experiment=fashion_cnn model.stem_stride=100", "model: expected pooling and strides", "model.stem_stride"),
    ("experiment=fashion_cnn model.stem_stride=2", "model: expected pooling"),
    ("experiment=fashion_resnet20 model.stem_stride=100", "model.stem_stride: expected 1 to 3"),
    ("experiment=fashion_resnet20 model.filters=[8,8,8,8,8,8,8]", "model: expected pooling"),
    ("experiment=fashion_resnet20 model.blocks=1000000", "model.blocks: expected"),
    ("experiment=fashion_cnn model.convolutions=1000000", "model.convolutions: expected"),
    ("experiment=fashion_cnn model.kernel_size=4", "model.kernel_size: expected an odd number"),
    ("experiment=fashion_cnn model.kernel_size=-1", "model.kernel_size: expected an odd number"),
    ("experiment=fashion_cnn model.kernel_size=99", "model.kernel_size: expected"),
    # numbers
    ("epochs=0", "epochs: expected", "0"),
    ("epochs=1000000000000", "epochs: expected"),
    ("batch_size=0", "batch_size: expected at least 1, or null"),
    ("profile.epochs=0", "profile.epochs: expected"),
    ("profile.samples=0", "profile.samples: expected"),
    ("profile.samples=-3", "profile.samples: expected"),
    ("limits.epochs=0", "epochs: expected"),
    ("optimizer.learning_rate=0", "optimizer.learning_rate: expected more than 0"),
    ("optimizer=adam optimizer.beta_1=2", "optimizer.beta_1: expected"),
    ("optimizer=adam optimizer.beta_1=1", "optimizer.beta_1: expected"),
    ("optimizer=adam optimizer.beta_2=1", "optimizer.beta_2: expected"),
    ("optimizer=adam optimizer.epsilon=0", "optimizer.epsilon: expected"),
    ("optimizer=momentum optimizer.momentum=2", "optimizer.momentum: expected"),
    ("optimizer=nesterov optimizer.momentum=1", "optimizer.momentum: expected"),
    ("optimizer=rmsprop optimizer.rho=1", "optimizer.rho: expected"),
    ("optimizer.schedule.warmup=1", "optimizer.schedule.warmup: expected"),
    ("optimizer.schedule.end=2", "optimizer.schedule.end: expected"),
    ("optimizer.schedule.kind=exponential", "optimizer.schedule.end: expected more than 0"),
    ("model.dropout=1", "model.dropout: expected", "less than 1"),
    ("label_smoothing=1", "label_smoothing: expected"),
    ("ema=0", "ema: expected"),
    ("ema=1", "ema: expected"),
    ("seed=4294967296", "seed: expected"),
    ("engine.threads=0", "engine.threads: expected"),
    ("engine.threads=1000000", "engine.threads: expected"),
    ("experiment=fashion_cnn engine.steps_per_execution=0", "engine.steps_per_execution: expected"),
    ("data.valid_fraction=0", "data.valid_fraction: expected"),
    ("data.valid_fraction=1", "data.valid_fraction: expected"),
    ("data.valid_fraction=1e-9", "data.valid_fraction: expected"),
    ("data.split_seed=4294967296", "data.split_seed: expected"),
    ("experiment=fashion_cnn data.train_fraction=0", "data.train_fraction: expected"),
    ("experiment=fashion_cnn data.train_fraction=2", "data.train_fraction: expected"),
    ("experiment=fashion_cnn data.train_fraction=1e-9", "data.train_fraction: expected"),
    ("experiment=fashion_cnn data.valid_samples=0", "data.valid_samples: expected"),
    ("experiment=fashion_cnn data.margin=-1", "data.margin: expected"),
    ("experiment=fashion_cnn data.margin=14", "data.margin: expected 0 to 13"),
    ("experiment=fashion_cnn augmentation.shift=28", "augmentation.shift: expected 0 to 27"),
    ("experiment=fashion_cnn augmentation.shift_at_test=28", "augmentation.shift_at_test: expected 0 to 27"),
    ("experiment=fashion_cnn augmentation.erase=2", "augmentation.erase: expected"),
    ("tracking.timeout_seconds=0", "tracking.timeout_seconds: expected"),
    ("objective=accuracy", "objective: expected"),
    ("objective=valid/los", "objective: expected"),
    ("objective=''", "objective: expected"),
    # combinations
    ("model=cnn", "expected images", "'nba'"),
    ("model=resnet20", "model.kind=resnet", "expected images", "'nba'"),
    ("label_smoothing=0.1", "label_smoothing", "categorical_crossentropy", "binary"),
    ("augmentation.flip=true", "augmentation", "expected images", "'nba'"),
    ("model.activation=softmax", "softmax", "hidden layers"),
    ("data.scaling=unit", "data.scaling: expected none or standard"),
    ("engine.batch_configs=true", "engine.batch_configs=true: expected a sweep"),
    ("experiment=nba_keras label_smoothing=0.1", "label_smoothing", "categorical_crossentropy", "binary"),
    ("experiment=nba_keras engine.mixed_precision=true", "engine.mixed_precision", "float32", "float64"),
    ("experiment=nba_keras augmentation.flip_at_test=true", "augmentation", "expected images", "'nba'"),
    ("experiment=nba_keras loss=categorical_crossentropy", "one output unit", "allow_degenerate=true"),
    ("experiment=nba_keras engine.backend=jax", "engine.dtype=float64", "engine.backend=tensorflow"),
    ("experiment=nba_keras data.task=regression data.classes=null loss=binary_crossentropy", "regression"),
    ("experiment=fashion_dense loss=binary_crossentropy", "multiclass", "categorical_crossentropy"),
    ("experiment=fashion_cnn augmentation.mixup=1 loss=mean_squared_error", "augmentation.mixup", "mean_squared_error"),
]

# Overrides that look odd and can be trained.
RIGHT = [
    "",
    "epochs=1",
    "name=a.b-c_1",
    "name=7",
    f"name={'a' * 100}",
    "'description=my own run'",
    "description=''",
    "'description=\"手寫 Dončić\"'",
    "batch_size=1",
    "batch_size=null",
    "batch_size=1000000",
    "seed=4294967295",
    "model.hidden_units=[]",
    "model.hidden_units=[1]",
    "optimizer=momentum optimizer.momentum=0",
    "optimizer=adam optimizer.beta_1=0",
    "optimizer.schedule.end=1",
    "optimizer.learning_rate=1e-30",
    "optimizer.learning_rate=1",
    "profile=smoke",
    "profile.epochs=null",
    "tracking=none",
    "tracking.live_seconds=0",
    "data.classes=[a,b]",
    "data.split_by=team",
    "checkpoint_seconds=null",
    "checkpoint_seconds=0",
    "early_stopping.patience=1",
    "objective=test/accuracy",
    "+profile.epochs=3",
    "++epochs=3",
    "experiment=[nba_scratch]",
    "experiment=nba_points",
    "experiment=fashion_cnn model.filters=[8,8,8,8]",
    "experiment=fashion_cnn model.kernel_size=1",
    "experiment=fashion_cnn model.kernel_size=27",
    "experiment=fashion_cnn model.dense_units=[]",
    "experiment=fashion_cnn data=mnist",
    "experiment=fashion_cnn data.train_fraction=0.0001",
    "experiment=fashion_cnn data.margin=13",
    "experiment=fashion_cnn augmentation.shift=27 augmentation.shift_at_test=27",
    "experiment=fashion_resnet20 model.stem_stride=3",
    "experiment=fashion_best",
]

# Every number of these experiments is given each of these values.
NUMBERS = (
    "experiment=nba_scratch",
    "experiment=fashion_cnn engine.threads=1 engine.steps_per_execution=1 model.dense_units=[8] ema=0.9 "
    "early_stopping.patience=3 profile.epochs=1 profile.samples=10",
    "experiment=fashion_resnet20 model.stem_filters=8 optimizer=nesterov",
    "optimizer=rmsprop",
    "optimizer=momentum",
)
NO_NUMBERS = ("nan", "inf", "-7", "word", "[1]")


# ------------------------------------------------------------------------------------------ edits of conf/

NBA, ADAM, MLP = "experiment/nba_scratch.yaml", "optimizer/adam.yaml", "model/mlp_book.yaml"
WITH_ADAM = "optimizer=adam"


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        assert old.encode() in content, f"conf/ no longer holds {old!r}"
        return content.replace(old.encode(), new.encode())

    return edit


def appended(text: str | bytes) -> Callable[[bytes], bytes]:
    return lambda content: content + (text if isinstance(text, bytes) else text.encode())


def becomes(text: str | bytes) -> Callable[[bytes], bytes]:
    return lambda content: text if isinstance(text, bytes) else text.encode()


# What is done to which file of conf/, the overrides that compose it, and parts of the answer: none is accepted.
EDITS: list[tuple[str, str, Callable[[bytes], bytes], str, tuple[str, ...]]] = [
    ("a misspelt key", NBA, replaced("epochs:", "epoch:"), "", ("epoch", "epochs")),
    ("an unknown key", NBA, appended("colour: red\n"), "", ("colour: expected one of",)),
    ("a misspelt key below", NBA, replaced("  learning_rate", "  learning_rat"), "", ("use optimizer.learning_rate",)),
    ("an unknown key of an optimizer", ADAM, appended("beta_3: 1\n"), WITH_ADAM, ("beta_3", "beta_")),
    ("an unknown key of a model", MLP, appended("units: 3\n"), "", ("model.units", "use model.hidden_units")),
    ("a key twice", NBA, appended("epochs: 5\n"), "", ("epochs",)),
    ("epochs: 0", NBA, replaced("100000", "0"), "", ("epochs: expected 1",)),
    ("epochs: .nan", NBA, replaced("100000", ".nan"), "", ("epochs: expected a whole number",)),
    ("epochs: many", NBA, replaced("100000", "many"), "", ("epochs: expected a whole number",)),
    ("epochs: null", NBA, replaced("100000", "null"), "", ("epochs: expected a value",)),
    ("epochs: [1]", NBA, replaced("100000", "[1]"), "", ("epochs: expected a whole number",)),
    ("no epochs", NBA, replaced("epochs: 100000\n", ""), "", ("epochs: expected a value",)),
    ("no name", NBA, replaced("name: nba_scratch\n", ""), "", ("name: expected a value",)),
    ("a name that is a path", NBA, replaced("name: nba_scratch", "name: ../x"), "", ("name: expected",)),
    ("a rate of 1e-3, a text in YAML", NBA, replaced("0.001", "1e-3"), "", ()),
    ("a rate of .inf", NBA, replaced("0.001", ".inf"), "", ("optimizer.learning_rate: expected a finite number",)),
    ("a rate with a comma", NBA, replaced("0.001", "0,001"), "", ("optimizer.learning_rate: expected a number",)),
    ("a decay of -1", "optimizer/adamw.yaml", replaced("0.03", "-1"), "optimizer=adamw", ("weight_decay: expected",)),
    ("units: 0", MLP, replaced("[4]", "[0]"), "", ("model.hidden_units: expected",)),
    ("units: [[4, 4]]", MLP, replaced("[4]", "[[4, 4]]"), "", ("model.hidden_units: expected",)),
    ("units: 4", MLP, replaced("[4]", "4"), "", ("hidden_units: expected a list",)),
    ("units: null", MLP, replaced("[4]", "null"), "", ("hidden_units: expected a value",)),
    ("200,000 numbers", MLP, replaced("[4]", f"[{', '.join(['4'] * 200_000)}]"), "", (MLP, "100,000")),
    ("a billion units", MLP, replaced("[4]", "[1000000000]"), "", ("model: expected", "GB")),
    ("a latin-1 byte", NBA, appended(b"# Don\xe8i\xe6\n"), "", (NBA, "UTF-8", "0xe8")),
    ("UTF-16", NBA, lambda content: content.decode().encode("utf-16"), "", (NBA,)),
    ("a tab", NBA, appended("early_stopping:\n\tpatience: 3\n"), "", (NBA, "line")),
    ("a NUL", NBA, appended("\0"), "", (NBA,)),
    ("a byte order mark", NBA, lambda content: b"\xef\xbb\xbf" + content, "", (NBA, "byte order mark")),
    ("CRLF", NBA, lambda content: content.replace(b"\n", b"\r\n"), "", ()),
    ("an unclosed bracket", MLP, replaced("[4]", "[4"), "", (MLP, "line")),
    ("an unclosed quote", NBA, replaced('hand"', "hand"), "", (NBA, "line")),
    ("conflict markers", NBA, appended("<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> x\n"), "", (NBA, "line")),
    ("a list in the place of keys", NBA, becomes("- 1\n- 2\n"), "", ("nba_scratch",)),
    ("a word in the place of keys", NBA, becomes("hello\n"), "", ("nba_scratch",)),
    ("an empty file", NBA, becomes(""), "", ("experiment",)),
    ("a Python object", NBA, appended("seed: !!python/object/apply:os.getcwd []\n"), "", (NBA,)),
    ("an alias without an anchor", NBA, appended("seed: *nowhere\n"), "", (NBA,)),
    ("a cycle of defaults", MLP, replaced("  - schema/mlp@_here_", "  - mlp_book"), "", ("defaults",)),
    ("a cycle of two files", MLP, replaced("  - schema", "  - mlp_cycle\n  - schema"), "", ("defaults",)),
    ("defaults that are a number", MLP, replaced("  - schema/mlp@_here_\n  - _self_", " 5"), "", ("mlp_book",)),
    ("defaults that are null", MLP, replaced("  - schema/mlp@_here_\n  - _self_", " null"), "", ("model",)),
    ("a misspelt default", NBA, replaced("/model: mlp_book", "/model: mlp_bok"), "", ("use model=mlp_book",)),
    ("a group that does not exist", NBA, replaced("/model: mlp_book", "/modle: mlp_book"), "", ("modle",)),
    ("no schema", MLP, replaced("  - schema/mlp@_here_\n", ""), "", ("hidden_units",)),
    ("another schema", MLP, replaced("schema/mlp", "schema/cnn"), "", ("hidden_units",)),
    ("no model", NBA, replaced("  - /model: mlp_book\n", ""), "", ("model",)),
    ("an interpolation of nothing", NBA, replaced("100000", "${nothing}"), "", ("nothing",)),
    ("an interpolation of itself", NBA, replaced("100000", "${epochs}"), "", ("nterpolation",)),
    ("an interpolation of another key", NBA, replaced("100000", "${data.split_seed}"), "", ()),
    ("epochs of a profile: 0", "profile/full.yaml", replaced("epochs: null", "epochs: 0"), "", ("profile.epochs",)),
    ("samples: -1", "profile/full.yaml", replaced("samples: null", "samples: -1"), "", ("profile.samples",)),
    ("a misspelt cap", "profile/full.yaml", replaced("epochs", "epoch"), "", ("epoch", "epochs")),
    ("a negative patience", "tracking/mlflow.yaml", appended("live_seconds: -1\n"), "", ("tracking.live_seconds",)),
    ("a NaN patience", "tracking/mlflow.yaml", appended("live_seconds: .nan\n"), "", ("tracking.live_seconds",)),
    ("features: [[a]]", "data/nba.yaml", replaced("[apg, rpg]", "[[a]]"), "", ("data.features: expected",)),
    ("a file outside", "data/nba.yaml", appended("file: ../../x\n"), "", ("data.file: expected",)),
    ("eleven names", "data/mnist.yaml", replaced('"9"]', '"9", "9"]'), "experiment=fashion_cnn data=mnist",
     ("data.classes: expected", "different")),
    ("margin: -1", "data/mnist.yaml", replaced("margin: 4", "margin: -1"), "experiment=fashion_cnn data=mnist",
     ("data.margin: expected",)),
    ("a kind that does not exist", ADAM, appended("kind: lion\n"), WITH_ADAM, ("optimizer.kind", "lion")),
    ("an Emacs lock link's text", "model/.#mlp_book.yaml", becomes("x"), "", ()),
]  # fmt: skip


# ----------------------------------------------------------------------------- the suite and params.yaml

# Overrides of conf/config.yaml, as `make params` and `dvc exp run -S` take them.
SUITE: list[tuple[str, ...]] = [
    ("experiments.nba_scratch.epochs=0", "experiments.nba_scratch: epochs: expected"),
    ("experiments.nba_scrach.epochs=5", "experiments.nba_scrach"),
    ("experiments.nba_scratch.epoch=5", "use experiments.nba_scratch.epochs"),
    ("+experiments.nba_scratch.epoch=5", "use experiments.nba_scratch.epochs"),
    ("experiments.nba_scratch.name=../x", "experiments.nba_scratch: name: expected"),
    ("+experiment@experiments.a/b=nba_keras", "a/b"),
    ("+experiment@experiments..x=nba_keras", ".x"),
    ("+experiment@experiments.own=nba_kers", "use experiment=nba_keras"),
    ("model@experiments.fashion_dense.model=cn", "use model=cnn"),
    ("model@experiments.fashion_dense.model=null", "model: expected one of"),
    ("datasets.nba.season=1995", "datasets.nba.season: expected"),
    ("datasets.nba.season=last", "season: expected a whole number"),
    ("datasets.nba.seasons=[]", "datasets.nba.seasons: expected"),
    ("datasets.nba.seasons=[2019,1950]", "datasets.nba.seasons: expected"),
    ("datasets.nba.season_type=summer", "season_type: expected one of"),
    ("datasets.nba.source=internet", "source: expected one of"),
    ("datasets.nba.name=../x", "name: expected"),
    ("datasets.nba.transport.retries=-1", "transport.retries: expected"),
    ("datasets.nba.transport.read_timeout=nan", "transport.read_timeout: expected a finite number"),
    ("datasets.nba.transport.total_timeout=0", "transport.total_timeout: expected"),
    ("datasets.nba.transport.max_bytes=0", "transport.max_bytes: expected"),
    ("datasets.nba.sources.upstream.interval=-1", "sources.upstream.interval: expected"),
    ("datasets.nba.reading.classes=[a,a]", "reading.classes: expected"),
    ("datasets.mnist.arrays.X_train.shape=[]", "arrays.X_train.shape: expected"),
    ("compare.confidence=2", "compare.confidence: expected"),
    ("compare.resamples=1", "compare.resamples: expected"),
    ("compare.bins=0", "compare.bins: expected"),
    ("tracking.patience_seconds=-1", "tracking.patience_seconds: expected"),
    ("profile.epochs=0", "profile.epochs: expected"),
    ("profile=ful", "use profile=full"),
    ("experiments.nba_scratch=null", "experiments.nba_scratch"),
    ("experiments=null", "experiments"),
    ("'experiments.nba_scratch.description=my own run'",),
    ("profile=smoke",),
    ("~experiment@experiments.nba_keras",),
]

# What params.yaml becomes, and parts of what each stage then answers: none is read as it was.
PARAMS: list[tuple[str, Callable[[bytes], bytes], tuple[str, ...]]] = [
    ("conflict markers", appended("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n"), ("params.yaml", "make params")),
    ("an empty file", becomes(""), ("params.yaml", "make params")),
    ("blanks alone", becomes("  \n\n"), ("params.yaml", "make params")),
    ("a list", becomes("- 1\n"), ("params.yaml", "make params")),
    ("a word", becomes("hello\n"), ("params.yaml", "make params")),
    ("a third of it", lambda content: content[: len(content) // 3], ("expected",)),
    ("half of it", lambda content: content[: len(content) // 2], ("expected",)),
    ("a NUL", appended(b"\0"), ("params.yaml", "make params")),
    ("a latin-1 byte", appended(b"# \xe8\n"), ("params.yaml", "make params")),
    ("UTF-16", lambda content: content.decode().encode("utf-16"), ("params.yaml", "make params")),
    ("a tab", appended("\tx: 1\n"), ("params.yaml", "make params")),
    ("10,000 brackets", appended("x: " + "[" * 10_000), ("params.yaml", "make params")),
    ("experiments: 5", becomes("experiments: 5\ndatasets: {}\ncompare: {}\ntracking: {}\n"), ("params.yaml",)),
    ("an experiment: 5", replaced("experiments:\n", "experiments:\n  x: 5\n"), ("experiments.x: expected keys",)),
    ("epochs: 0", replaced("epochs: 100000", "epochs: 0"), ("experiments.nba_scratch: epochs: expected 1",)),
    ("an unknown key", replaced("epochs: 100000", "epoch: 100000"), ("experiments.nba_scratch: epoch: ", "use epochs")),
    ("an unknown kind", replaced("kind: gradient_descent", "kind: lion"), ("optimizer.kind: expected one of",)),
    ("CRLF", lambda content: content.replace(b"\n", b"\r\n"), ()),
    ("a byte order mark", lambda content: b"\xef\xbb\xbf" + content, ()),
    ("no header", lambda content: content.split(b"\n", 2)[2], ()),
]  # fmt: skip


def cases() -> list[Case]:
    composer, suite = expand.Composer(ROOT), expand.Composer(ROOT, "config")
    found = [Case(line, tuple(parts), overridden(shlex.split(line))) for line, *parts in WRONG]
    found += [Case(line or "(nothing)", (), overridden(shlex.split(line))) for line in RIGHT]
    found += list(numbers(composer))
    found += [
        Case(f"{name} in conf/{file}", parts, edited(file, edit, words)) for name, file, edit, words, parts in EDITS
    ]
    found += [
        Case(f"make params S={words}", tuple(parts), in_suite(suite, shlex.split(words))) for words, *parts in SUITE
    ]
    found += [Case(f"params.yaml: {name}", parts, with_params(edit)) for name, edit, parts in PARAMS]
    return found


def numbers(composer: expand.Composer) -> Iterator[Case]:
    """Each number of the experiments NUMBERS, once, with each of NO_NUMBERS; composed as the jobs of a sweep are."""
    seen: set[str] = set()
    for words in NUMBERS:
        base = words.split()
        for key, value in leaves(composer(expand.parse(base))):
            if isinstance(value, int | float) and not isinstance(value, bool) and not seen & {key}:
                seen.add(key)
                for odd in NO_NUMBERS:
                    check = swept(composer, [*base, f"{key}={odd}"])
                    yield Case(f"-m {words} {key}={odd}", (key.rpartition(".")[2],), check)


def leaves(node: DictConfig, key: str = "") -> Iterator[tuple[str, object]]:
    for name, value in node.items():
        if name == "limits":  # `profile`, by another name
            continue
        if isinstance(value, DictConfig):
            yield from leaves(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


def overridden(words: list[str]) -> Callable[[Path], object]:
    return lambda folder: config.experiment(config.compose(ROOT, "train", words))


def swept(composer: expand.Composer, words: list[str]) -> Callable[[Path], object]:
    """As the jobs of a sweep are composed: many times as fast."""
    return lambda folder: config.experiment(composer(expand.parse(words)), allow_batch=True)


def edited(name: str, edit: Callable[[bytes], bytes], words: str) -> Callable[[Path], object]:
    def check(folder: Path) -> object:
        shutil.copytree(ROOT / "conf", folder / "conf")
        file = folder / "conf" / name
        (folder / "conf/model/mlp_cycle.yaml").write_text("defaults:\n  - mlp_book\n")
        file.write_bytes(edit(file.read_bytes() if file.exists() else b""))
        return config.experiment(config.compose(folder, "train", words.split()))

    return check


def in_suite(suite: expand.Composer, words: list[str]) -> Callable[[Path], object]:
    return lambda folder: params.validate(suite(expand.parse(words)))


def with_params(edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def check(folder: Path) -> object:
        (folder / "params.yaml").write_bytes(edit((ROOT / "params.yaml").read_bytes()))
        with chdir(folder):
            params.validate(values := stage.params())
            return values

    return check


def run(case: Case, folder: Path) -> Outcome:
    started, answer, mistakes = time.monotonic(), "", []
    try:
        case.check(folder)
        accepted = True
    except TwinnetError as error:
        accepted, answer = False, str(error)
    except Exception as error:
        accepted, answer = False, f"{type(error).__name__}: {error}"
        mistakes.append("a traceback")
    if accepted and case.parts:
        mistakes.append("accepted")
    if not accepted and not case.parts:
        mistakes.append("refused")
    if "\n" in answer:
        mistakes.append("more than one line")
    if len(answer) > LONGEST:
        mistakes.append(f"{len(answer)} characters")
    if not accepted and (missing := [part for part in case.parts if part not in answer]):
        mistakes.append(f"does not say {missing}")
    if (seconds := time.monotonic() - started) > LIMIT:
        mistakes.append(f"{seconds:.0f} s")
    return Outcome(case.tried, answer or "(accepted)", tuple(mistakes))


def run_all(some: list[Case], folder: Path) -> list[Outcome]:
    outcomes = []
    for number, case in enumerate(some):
        (folder / str(number)).mkdir()
        outcomes.append(run(case, folder / str(number)))
    return outcomes


if __name__ == "__main__":
    sys.exit(report({"configurations": lambda folder: run_all(cases(), folder)}))
