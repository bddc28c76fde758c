from .codes import (
    BIBD as BIBD,
    AbstractCode as AbstractCode,
    Bernoulli as Bernoulli,
    BlockModel as BlockModel,
    CommunicationEfficient as CommunicationEfficient,
    CouponCollector as CouponCollector,
    Custom as Custom,
    CyclicMDS as CyclicMDS,
    CyclicRepetition as CyclicRepetition,
    FractionalRepetition as FractionalRepetition,
    GraphCode as GraphCode,
    PartialCyclic as PartialCyclic,
    PartialReplication as PartialReplication,
    PerBlock as PerBlock,
    ReedSolomon as ReedSolomon,
    RegularGraph as RegularGraph,
    StochasticCode as StochasticCode,
    Uncoded as Uncoded,
    on_host as on_host,
)
from .data import (
    AbstractEncoder as AbstractEncoder,
    Dataset as Dataset,
    Dense as Dense,
    Mixed as Mixed,
    OneHot as OneHot,
    Rows as Rows,
    Sparse as Sparse,
    array_dataset as array_dataset,
    load_encoder as load_encoder,
    table_dataset as table_dataset,
)
from .decoding import (
    AbstractDecode as AbstractDecode,
    ByCode as ByCode,
    ByLeastSquares as ByLeastSquares,
    OneStep as OneStep,
    Unbiased as Unbiased,
)
from .delays import (
    AbstractDelay as AbstractDelay,
    Bursts as Bursts,
    Constant as Constant,
    Drift as Drift,
    Exponential as Exponential,
    Gamma as Gamma,
    LoadDependent as LoadDependent,
    LogNormal as LogNormal,
    NoDelay as NoDelay,
    Pareto as Pareto,
    ShiftedExponential as ShiftedExponential,
    SlowDowns as SlowDowns,
    SlowRacks as SlowRacks,
    SlowWorkers as SlowWorkers,
    Sum as Sum,
    Trace as Trace,
    UnequalWorkers as UnequalWorkers,
    Weibull as Weibull,
)
from .delays.fits import Fit as Fit, fit_times as fit_times
from .delays.recording import Recording as Recording, read_recording as read_recording
from .errors import ConfigError as ConfigError, Diverged as Diverged, Stopped as Stopped, StorageFailed as StorageFailed
from .estimators import CodedClassifier as CodedClassifier, CodedRegressor as CodedRegressor
from .loop.gradient import coded_gradient as coded_gradient
from .objectives import (
    MLP as MLP,
    AbstractObjective as AbstractObjective,
    Huber as Huber,
    LeastSquares as LeastSquares,
    Logistic as Logistic,
    Metric as Metric,
    Model as Model,
    Poisson as Poisson,
    Softmax as Softmax,
    SquaredHinge as SquaredHinge,
)
from .optimizers import agd as agd, gd as gd, nesterov as nesterov
from .placement import balanced_order as balanced_order, placed as placed
from .reports.compare import Report as Report, report as report
from .results import Run as Run, load as load
from .rundir.callbacks import Evaluation as Evaluation
from .scheme import Scheme as Scheme, collect as collect
from .schemes import (
    egc as egc,
    erasurehead as erasurehead,
    ignore_stragglers as ignore_stragglers,
    named_scheme as named_scheme,
    uncoded as uncoded,
)
from .stopping import (
    AbstractStop as AbstractStop,
    AllOf as AllOf,
    AnyOf as AnyOf,
    Count as Count,
    Deadline as Deadline,
    Decodable as Decodable,
    DecodeError as DecodeError,
)
from .stragglers.advice import Advice as Advice, advise as advise
from .stragglers.report import Traced as Traced, trace as trace
from .studies.ask import whatif as whatif
from .training import train as train
