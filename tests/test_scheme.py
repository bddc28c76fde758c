import jax, numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from erasurehead_jax.config import CONFIG_DIR
from erasurehead_jax import *
from erasurehead_jax.job import instantiate
from erasurehead_jax.scheme import collect
import erasurehead_jax as e
from erasurehead_jax.decoding import ByCode, ByLeastSquares
from erasurehead_jax.data import *

def s(name="erasurehead"):
    with initialize_config_dir(CONFIG_DIR, version_base=None):
        c = compose("train", [f"scheme={name}", "workers=6", "load=2", "wait_for=3"])
    return instantiate("scheme", OmegaConf.to_container(c, resolve=True))

def test_a():
    print(collect(s(), np.arange(6.0)))
def test_b():
    print(jax.jit(collect)(s(), np.arange(6.0)))
def test_c():
    print(jax.vmap(lambda a: collect(s("egc_cyclic"), a))(np.arange(12.0).reshape(2, 6)))
def test_d():
    code=e.FractionalRepetition(6,6,2)
    print(e.Deadline(1.0)(code, np.zeros(6,bool), np.float64(1)))
def test_e():
    code=e.CyclicRepetition(6,6,1); print(code.G)
    print(e.CyclicRepetition(1,1,1).G)
    print(e.CyclicRepetition(3,3,3).G)
def test_f():
    code=e.FractionalRepetition(6,6,2)
    got=np.array([True]*3+[False]*3)
    for r in ("none","expected","covered"):
        for D in (ByCode,ByLeastSquares):
            d=D(rescale=r,wait_for=3)
            print(r,D,d(code,got),jax.jit(lambda g:d(code,g))(got), jax.vmap(lambda g:d(code,g))(got[None]), d(code,got&False), jax.jit(lambda g:d(code,g))(got&False))
def test_g():
    print(e.Exponential(1).sample(jax.random.key(0), 3, 1.0))
def test_h():
    print(e.Count(3)(e.FractionalRepetition(6,6,2), np.ones(6,bool), 0.0), e.FractionalRepetition(6,6,2).decodable(np.ones(6,bool)))
@pytest.mark.parametrize("dense",[True,False])
@pytest.mark.parametrize("task",["classification","regression"])
def test_i(dense, task):
    d = synthetic(rows=50, fields=2,categories=3,dense=dense, task=task)
    for o in (e.Logistic(), e.LeastSquares()):
        x=o.init(jax.random.key(0), d)
        print(o.gradient(x,d.train,np.ones(40)), o.row_losses(np.ones((x.shape[0],3)), d.test).shape)
        t=o.touched(d.train)
        if t is not None:
            r=d.train.restrict(t)
            print(jax.jit(o.gradient)(x[t], r, np.ones(40)), o.row_losses(x[t],r).shape,o.row_losses(np.ones((len(t),3)), r).shape)
    from erasurehead_jax.metrics import evaluator
    o= e.Logistic() if task=="classification" else e.LeastSquares()
    print(evaluator(o,d)(iter([np.ones((3,d.dim))])))
@pytest.mark.parametrize("kw",[dict(rows=2,fields=1,categories=2), dict(rows=4)])
def test_j(kw):
    d=synthetic(**kw)
    print(d.train.target,len(d.test))
    from erasurehead_jax.metrics import evaluator
    print(evaluator(e.Logistic(),d)(iter([np.ones((3,d.dim))])))

@pytest.mark.parametrize("dense",[True,False])
def test_k(dense):
    d = synthetic(rows=50, fields=2,categories=3,dense=dense)
    for o in (e.Logistic(), e.LeastSquares()):
        x=o.init(jax.random.key(0), d)
        print(o.gradient(x,d.train,jax.numpy.ones(40)), o.row_losses(jax.numpy.ones((x.shape[0],3)), d.test).shape)
        t=o.touched(d.train)
        if t is not None:
            r=d.train.restrict(t)
            print(jax.jit(o.gradient)(x[t], r, np.ones(40)), o.row_losses(x[t],r).shape,o.row_losses(jax.numpy.ones((len(t),3)), r).shape)
