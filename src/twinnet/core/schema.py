"""The typed schema of conf/: what can be chosen and which types the values have.

One dataclass for each group of conf/, with the defaults that a yaml file there may leave out. Each subclass is
registered with Hydra's ConfigStore under its `kind` (see `core.config.register`).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import II, MISSING


class Task(StrEnum):
    binary = "binary"
    multiclass = "multiclass"
    regression = "regression"


class Loss(StrEnum):
    binary_crossentropy = "binary_crossentropy"
    categorical_crossentropy = "categorical_crossentropy"
    mean_squared_error = "mean_squared_error"


class Activation(StrEnum):
    identity = "identity"
    sigmoid = "sigmoid"
    relu = "relu"
    tanh = "tanh"
    softmax = "softmax"


class Initializer(StrEnum):
    uniform = "uniform"  # weights and biases on [0, 1), as the chapter draws them
    glorot_uniform = "glorot_uniform"
    he_normal = "he_normal"


class Scaling(StrEnum):
    none = "none"
    unit = "unit"  # images: 0..255 to 0..1
    standard = "standard"  # mean 0 and standard deviation 1 on the training split


class DeviceChoice(StrEnum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Dtype(StrEnum):
    float32 = "float32"
    float64 = "float64"


class ArrayLibrary(StrEnum):
    numpy = "numpy"
    jax = "jax"


class Backend(StrEnum):
    tensorflow = "tensorflow"
    jax = "jax"


class SourcePolicy(StrEnum):
    auto = "auto"  # the sources in order, then synthetic data if no host answers
    real = "real"  # never synthetic data
    synthetic = "synthetic"  # synthetic data, without a request


class ScheduleKind(StrEnum):
    constant = "constant"
    cosine = "cosine"
    one_cycle = "one_cycle"
    exponential = "exponential"


# ---------------------------------------------------------------------------------------------- data


@dataclass
class Data:
    """How an experiment reads a data set: conf/data/."""

    kind: str = MISSING
    name: str = MISSING  # the data set, as in datasets.<name>
    file: str = MISSING  # in data/processed/<name>/, fixed by the kind: leave it out
    task: Task = MISSING  # it determines the output layer and the default loss
    classes: list[str] | None = None  # names of the classes 0, 1, ...; None for regression
    scaling: Scaling = Scaling.none  # of the inputs


@dataclass
class TableData(Data):
    kind: str = "table"
    file: str = "table.csv"
    features: list[str] = MISSING  # columns of the table
    target: str = MISSING  # a column; for classes, one of their names or of 0, 1, ...
    valid_fraction: float = 0.33  # of the rows
    split_seed: int = 42  # of the draw of the validation rows
    stratify: bool = False  # keep the shares of the classes in both parts
    split_by: str | None = None  # a column whose values stay on one side, if it has several; None: split by rows


@dataclass
class ImageData(Data):
    kind: str = "images"
    file: str = "arrays.npz"
    image_shape: list[int] = field(default_factory=lambda: [28, 28, 1])  # height, width, channels
    margin: int = 0  # pixels that the images leave free around their objects, for framing other pictures like them
    valid_samples: int = 5000  # the first ones of the training images
    train_fraction: float = 1.0  # of the samples left for training, the first ones


# ------------------------------------------------------------------------------------------- networks


@dataclass
class Model:
    """A network without its output layer, which the task determines: conf/model/."""

    kind: str = MISSING
    activation: Activation = Activation.relu  # of the hidden layers
    init: Initializer = Initializer.glorot_uniform  # of the initial weights
    dropout: float = 0.0  # share of the units that a step leaves out
    batch_norm: bool = False  # normalise the batch after each hidden layer
    l2: float = 0.0  # added to the loss: l2 * sum of squared weights, biases left out


@dataclass
class MLP(Model):
    kind: str = "mlp"
    hidden_units: list[int] = MISSING  # of each hidden layer


@dataclass
class CNN(Model):
    """Blocks of convolutions with `filters`, the last of each followed by 2 x 2 max pooling, then dense layers."""

    kind: str = "cnn"
    filters: list[int] = MISSING  # of each block
    kernel_size: int = 3  # height and width
    convolutions: int = 1  # in each block
    stem_stride: int = 1  # of the first convolution
    dense_units: list[int] = field(default_factory=list)  # of each dense layer


@dataclass
class ResNet(Model):
    """Stages of residual blocks of two 3 x 3 convolutions; each stage but the first halves height and width.

    With `pre_activation` normalisation and activation come before each convolution (He et al. 2016b), as in wide
    residual networks, which drop out between the two convolutions of a block.
    """

    kind: str = "resnet"
    filters: list[int] = MISSING  # of each stage
    blocks: int = MISSING  # in each stage
    pre_activation: bool = False  # normalise and activate before each convolution
    stem_filters: int | None = None  # of the convolution before the first stage; None: those of the first stage
    stem_stride: int = 1  # of the convolution before the first stage
    batch_norm: bool = True  # normalise the batch


@dataclass
class Schedule:
    """Learning rate over the steps of a run, as a factor of optimizer.learning_rate."""

    kind: ScheduleKind = ScheduleKind.constant  # how the factor falls after the warmup
    warmup: float = 0.0  # fraction of the steps in which the factor rises linearly from 0 to 1
    end: float = 0.0  # the factor at the last step


@dataclass
class Optimizer:
    kind: str = MISSING
    learning_rate: float = MISSING  # an experiment may set another
    schedule: Schedule = field(default_factory=Schedule)


@dataclass
class GradientDescent(Optimizer):
    kind: str = "gradient_descent"


@dataclass
class Momentum(Optimizer):
    kind: str = "momentum"
    momentum: float = 0.9  # share of the last step that the next one keeps


@dataclass
class Nesterov(Optimizer):
    kind: str = "nesterov"
    momentum: float = 0.9  # share of the last step that the next one keeps


@dataclass
class RMSprop(Optimizer):
    kind: str = "rmsprop"
    rho: float = 0.9  # decay of the mean of squared gradients
    epsilon: float = 1e-7  # keeps the division finite


@dataclass
class Adam(Optimizer):
    kind: str = "adam"
    beta_1: float = 0.9  # decay of the mean of gradients
    beta_2: float = 0.999  # decay of the mean of squared gradients
    epsilon: float = 1e-7  # keeps the division finite


@dataclass
class AdamW(Adam):
    kind: str = "adamw"
    weight_decay: float = 0.004  # of W alone: biases and normalisation do not decay


# -------------------------------------------------------------------------------------------- engines


@dataclass
class Engine:
    kind: str = MISSING
    dtype: Dtype = Dtype.float32  # of weights and arithmetic
    threads: int | None = None  # None: chosen by the engine for the model

    @property
    def library(self) -> str:
        """The library that computes: numpy, jax or tensorflow."""
        raise NotImplementedError  # each engine says its own

    @property
    def label(self) -> str:
        """The engine with its library: scratch/jax, keras/tensorflow."""
        return f"{self.kind}/{self.library}"


@dataclass
class ScratchEngine(Engine):
    kind: str = "scratch"
    array: ArrayLibrary = ArrayLibrary.jax  # numpy is the readable reference, jax compiles the same functions
    batch_configs: bool = False  # in a sweep: train all configurations of one shape in one process

    @property
    def library(self) -> str:
        return self.array.value


@dataclass
class KerasEngine(Engine):
    kind: str = "keras"
    backend: Backend = Backend.tensorflow  # that Keras computes with
    steps_per_execution: int | None = None  # None: chosen by the engine for the model
    jit_compile: bool | None = None  # None: chosen by the engine for the model
    mixed_precision: bool | None = False  # activations in bfloat16, weights in float32; null: if that is faster

    @property
    def library(self) -> str:
        return self.backend.value


# -------------------------------------------------------------------------------------- an experiment


@dataclass
class Limits:
    """Caps that a profile puts on every experiment; null is no cap."""

    epochs: int | None = None  # of each training
    samples: int | None = None  # of each split


@dataclass
class EarlyStopping:
    """Stop when valid/loss has not fallen by `min_delta` for `patience` epochs, and take the best weights."""

    patience: int | None = None  # None: never
    min_delta: float = 0.0  # of valid/loss


@dataclass
class Augmentation:
    """Random changes of the training images, and the views of an evaluated one that are averaged."""

    flip: bool = False  # left and right
    shift: int = 0  # pixels, either way, filled with zeros: a random crop of the padded image
    erase: float = 0.0  # probability that a box of the image is filled with one grey (random erasing)
    mixup: float = 0.0  # alpha of the Beta distribution that says how much of another image is mixed in; 0: never
    cutmix: float = 0.0  # alpha of the same for the box that another image replaces; with mixup one of the two
    flip_at_test: bool = False  # evaluate the mean of the predictions for an image and for its mirror image
    shift_at_test: int = 0  # pixels; half of the mean is of the image in its place, half of it moved in four directions


@dataclass
class Experiment:
    name: str = MISSING  # of the run and its folder
    description: str = ""  # a title for people; it changes no training
    data: Data = MISSING
    model: Model = MISSING
    engine: Engine = MISSING
    optimizer: Optimizer = MISSING
    loss: Loss | None = None  # None: the task's own
    epochs: int = MISSING  # passes over the training split
    batch_size: int | None = None  # None: all samples in one batch
    seed: int = 0  # of the initial weights, the batch order, dropout and augmentation
    device: DeviceChoice = DeviceChoice.auto  # auto: a GPU if the engine finds one
    allow_degenerate: bool = False  # train even if the loss cannot teach the network anything
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    label_smoothing: float = 0.0  # of the training targets, for categorical_crossentropy
    ema: float | None = None  # decay of the moving average of the weights that is evaluated and saved
    augmentation: Augmentation = field(default_factory=Augmentation)
    checkpoint_seconds: float | None = 60.0  # between two checkpoints of a training; None: no checkpoints
    limits: Limits = field(default_factory=lambda: II("profile"))

    @property
    def trained_epochs(self) -> int:
        """Epochs that are trained: `epochs`, capped by `limits`."""
        return min(self.epochs, self.limits.epochs or self.epochs)


@dataclass
class Tracking:
    enabled: bool = True  # send runs to MLflow
    live_seconds: float = 2.0  # how often curves of a running training are sent
    timeout_seconds: int = 5  # for one answer of a tracking server
    patience_seconds: float = 15.0  # for a slow server at the end of a run; what it lacks is published later
    deadline_seconds: float = 300.0  # for `publish` as a whole, and for sending one run
    system_seconds: float = 30.0  # between two measurements of CPU, memory and GPU in longer trainings; 0: none


@dataclass
class Compare:
    """How finished runs are compared."""

    confidence: float = 0.95  # of every interval; a difference is shown at 1 - confidence
    resamples: int = 20_000  # of each bootstrap
    seed: int = 0  # of the bootstraps
    bins: int = 15  # of the confidence, in the calibration
    store: bool = True  # `python -m twinnet.compare` adds runs of several seeds from the tracking store


@dataclass
class SingleRun(Experiment):
    """conf/train.yaml: one experiment with what only an application needs."""

    profile: Limits = field(default_factory=Limits)
    tracking: Tracking = field(default_factory=Tracking)
    resume: bool = True  # in a sweep: take the result of a finished run of the same configuration, data and code
    fail_fast: bool = False  # in a sweep: start no further job after one has failed
    figures: bool = False  # in a sweep: draw every run, not only the best
    max_jobs: int = 10_000  # of a sweep; more are refused before any is composed
    objective: str = "valid/loss"  # what the best configuration of a sweep is best in; loss and mae: the least


# ------------------------------------------------------------------------------------------ data sets


class SeasonType(StrEnum):
    regular_season = "regular_season"
    playoffs = "playoffs"


class SyntheticKind(StrEnum):
    garments = "garments"
    digits = "digits"
    none = "none"


@dataclass
class Source:
    """One place to ask; `kind` names a class of twinnet.data.download.sources."""

    kind: str = MISSING
    address: str = ""  # what stands before the name of a file; a mirror takes it from TWINNET_MIRROR
    headers: dict[str, str] = field(default_factory=dict)  # of each request
    interval: float = 0.0  # seconds between two requests, at least
    sha256: dict[str, str] = field(default_factory=dict)  # of files as this source sends them, if they never change


@dataclass
class Transport:
    """Timeouts, retries and limits of downloads."""

    connect_timeout: float = 5.0  # seconds
    read_timeout: float = 15.0  # seconds of silence
    total_timeout: float = 600.0  # seconds for one file, with every retry
    retries: int = 3  # after a failed request
    backoff: float = 0.5  # seconds before the second retry, doubled for each further one
    patience: float = 60.0  # seconds; a Retry-After beyond it ends the attempt
    max_redirects: int = 5  # of one request
    max_bytes: int = 100_000_000  # of one file whose size is not known beforehand
    user_agent: str = "twinnet/0.1 (research and teaching)"  # that requests name


@dataclass
class Dataset:
    """Where a data set comes from: conf/dataset/, for the stages download and preprocess."""

    kind: str = MISSING
    name: str = MISSING  # of its folders in data/
    title: str = ""  # in cards and figures
    licence: str = ""  # in the card
    source: SourcePolicy = SourcePolicy.auto  # auto: synthetic data only if no host answers
    sources: dict[str, Source] = field(default_factory=dict)  # in the order to try
    transport: Transport = field(default_factory=Transport)
    reading: Data = MISSING  # how data/processed/<name>/ is read


def season_name(season: int) -> str:
    """Return the season as the service writes it: 2019 is 2019-20, 1999 is 1999-00."""
    return f"{season}-{(season + 1) % 100:02d}"


@dataclass
class NBADataset(Dataset):
    kind: str = "nba"
    season: int = 2019  # the year in which it begins, from 1996
    seasons: list[int] | None = None  # several of them, instead of `season`
    season_type: SeasonType = SeasonType.regular_season  # games that count
    players: dict[str, list[int]] = field(  # season type -> fewest and most players that are plausible
        default_factory=lambda: {"regular_season": [350, 750], "playoffs": [120, 350]}
    )
    max_left_out: float = 0.01  # of a season's players, who have no position or two rows with different values
    strict: bool = True  # ranks and sums in the statistics must agree with the values


@dataclass
class ArrayFile:
    """Where an array of a split lies and what it must look like."""

    file: str = MISSING  # one of the data set's files
    member: str | None = None  # of an .npz archive
    shape: list[int] = MISSING  # samples first


@dataclass
class ImageDataset(Dataset):
    kind: str = "images"
    files: dict[str, str] = MISSING  # file name -> SHA-256, of the decompressed bytes if it is gzip
    arrays: dict[str, ArrayFile] = MISSING  # X_train, y_train and, if there is a test split, X_test, y_test
    stand_in: SyntheticKind = SyntheticKind.none  # the synthetic images


@dataclass
class TableDataset(Dataset):
    """A CSV file with a header, in UTF-8; columns and classes are those of `reading`."""

    kind: str = "table"
    files: dict[str, str] = MISSING  # the name of the one file -> SHA-256, decompressed if it is gzip


@dataclass
class Suite:
    """conf/config.yaml: everything that `dvc repro` does; composed, it is params.yaml."""

    profile: Limits = field(default_factory=Limits)
    tracking: Tracking = field(default_factory=Tracking)
    compare: Compare = field(default_factory=Compare)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)
