"""What to cite: the papers that estimators come from, as BibTeX."""

from __future__ import annotations

import re

_BIBLIOGRAPHY = r"""
@article{bengio2013,
  author = {Bengio, Yoshua and L{\'e}onard, Nicholas and Courville, Aaron},
  title = {Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
    Computation},
  journal = {arXiv preprint arXiv:1308.3432},
  year = {2013},
  eprint = {1308.3432}, archivePrefix = {arXiv}
}

@inproceedings{cheng2019,
  author = {Cheng, Ching-An and Yan, Xinyan and Boots, Byron},
  title = {Trajectory-wise Control Variates for Variance Reduction in Policy Gradient Methods},
  booktitle = {Conference on Robot Learning},
  year = {2019},
  eprint = {1908.03263}, archivePrefix = {arXiv}
}

@inproceedings{dimitriev2021arms,
  author = {Dimitriev, Aleksandar and Zhou, Mingyuan},
  title = {{ARMS}: Antithetic-{REINFORCE}-Multi-Sample Gradient for Binary Variables},
  booktitle = {International Conference on Machine Learning},
  year = {2021},
  eprint = {2105.14141}, archivePrefix = {arXiv}
}

@inproceedings{dimitriev2021carms,
  author = {Dimitriev, Alek and Zhou, Mingyuan},
  title = {{CARMS}: Categorical-Antithetic-{REINFORCE} Multi-Sample Gradient Estimator},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021},
  eprint = {2110.14002}, archivePrefix = {arXiv}
}

@inproceedings{dong2020,
  author = {Dong, Zhe and Mnih, Andriy and Tucker, George},
  title = {{DisARM}: An Antithetic Gradient Estimator for Binary Latent Variables},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
  eprint = {2006.10680}, archivePrefix = {arXiv}
}

@inproceedings{dong2021,
  author = {Dong, Zhe and Mnih, Andriy and Tucker, George},
  title = {Coupled Gradient Estimators for Discrete Latent Variables},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021},
  eprint = {2106.08056}, archivePrefix = {arXiv}
}

@inproceedings{espeholt2018,
  author = {Espeholt, Lasse and Soyer, Hubert and Munos, R{\'e}mi and Simonyan, Karen and
    Mnih, Volodymyr and Ward, Tom and Doron, Yotam and Firoiu, Vlad and Harley, Tim and
    Dunning, Iain and Legg, Shane and Kavukcuoglu, Koray},
  title = {{IMPALA}: Scalable Distributed Deep-{RL} with Importance Weighted Actor-Learner
    Architectures},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
  eprint = {1802.01561}, archivePrefix = {arXiv}
}

@inproceedings{grathwohl2018,
  author = {Grathwohl, Will and Choi, Dami and Wu, Yuhuai and Roeder, Geoffrey and
    Duvenaud, David},
  title = {Backpropagation through the Void: Optimizing Control Variates for Black-Box Gradient
    Estimation},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  eprint = {1711.00123}, archivePrefix = {arXiv}
}

@inproceedings{gu2016,
  author = {Gu, Shixiang and Levine, Sergey and Sutskever, Ilya and Mnih, Andriy},
  title = {{MuProp}: Unbiased Backpropagation for Stochastic Neural Networks},
  booktitle = {International Conference on Learning Representations},
  year = {2016},
  eprint = {1511.05176}, archivePrefix = {arXiv}
}

@inproceedings{jang2017,
  author = {Jang, Eric and Gu, Shixiang and Poole, Ben},
  title = {Categorical Reparameterization with {Gumbel}-Softmax},
  booktitle = {International Conference on Learning Representations},
  year = {2017},
  eprint = {1611.01144}, archivePrefix = {arXiv}
}

@inproceedings{kakade2001,
  author = {Kakade, Sham M.},
  title = {A Natural Policy Gradient},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {14},
  year = {2001}
}

@inproceedings{kingma2014,
  author = {Kingma, Diederik P. and Welling, Max},
  title = {Auto-Encoding Variational {Bayes}},
  booktitle = {International Conference on Learning Representations},
  year = {2014},
  eprint = {1312.6114}, archivePrefix = {arXiv}
}

@inproceedings{kool2019,
  author = {Kool, Wouter and van Hoof, Herke and Welling, Max},
  title = {Buy 4 {REINFORCE} Samples, Get a Baseline for Free!},
  booktitle = {ICLR Workshop on Deep Reinforcement Learning Meets Structured Prediction},
  year = {2019},
  url = {https://openreview.net/forum?id=r1lgTGL5DE}
}

@inproceedings{kool2019beams,
  author = {Kool, Wouter and van Hoof, Herke and Welling, Max},
  title = {Stochastic Beams and Where to Find Them: The {Gumbel}-Top-k Trick for Sampling
    Sequences Without Replacement},
  booktitle = {International Conference on Machine Learning},
  year = {2019},
  eprint = {1903.06059}, archivePrefix = {arXiv}
}

@inproceedings{kool2020,
  author = {Kool, Wouter and van Hoof, Herke and Welling, Max},
  title = {Estimating Gradients for Discrete Random Variables by Sampling without Replacement},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  eprint = {2002.06043}, archivePrefix = {arXiv}
}

@inproceedings{liu2023,
  author = {Liu, Liyuan and Dong, Chengyu and Liu, Xiaodong and Yu, Bin and Gao, Jianfeng},
  title = {Bridging Discrete and Backpropagation: Straight-Through and Beyond},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
  eprint = {2304.08612}, archivePrefix = {arXiv}
}

@inproceedings{maddison2017,
  author = {Maddison, Chris J. and Mnih, Andriy and Teh, Yee Whye},
  title = {The Concrete Distribution: A Continuous Relaxation of Discrete Random Variables},
  booktitle = {International Conference on Learning Representations},
  year = {2017},
  eprint = {1611.00712}, archivePrefix = {arXiv}
}

@inproceedings{mnih2014,
  author = {Mnih, Andriy and Gregor, Karol},
  title = {Neural Variational Inference and Learning in Belief Networks},
  booktitle = {International Conference on Machine Learning},
  year = {2014},
  eprint = {1402.0030}, archivePrefix = {arXiv}
}

@inproceedings{mnih2016a3c,
  author = {Mnih, Volodymyr and Badia, Adri{\`a} Puigdom{\`e}nech and Mirza, Mehdi and
    Graves, Alex and Lillicrap, Timothy P. and Harley, Tim and Silver, David and
    Kavukcuoglu, Koray},
  title = {Asynchronous Methods for Deep Reinforcement Learning},
  booktitle = {International Conference on Machine Learning},
  year = {2016},
  eprint = {1602.01783}, archivePrefix = {arXiv}
}

@inproceedings{mnih2016vimco,
  author = {Mnih, Andriy and Rezende, Danilo J.},
  title = {Variational Inference for {Monte} {Carlo} Objectives},
  booktitle = {International Conference on Machine Learning},
  year = {2016},
  eprint = {1602.06725}, archivePrefix = {arXiv}
}

@article{mohamed2020,
  author = {Mohamed, Shakir and Rosca, Mihaela and Figurnov, Michael and Mnih, Andriy},
  title = {{Monte} {Carlo} Gradient Estimation in Machine Learning},
  journal = {Journal of Machine Learning Research},
  volume = {21},
  number = {132},
  pages = {1--62},
  year = {2020},
  eprint = {1906.10652}, archivePrefix = {arXiv}
}

@inproceedings{naesseth2017,
  author = {Naesseth, Christian A. and Ruiz, Francisco J. R. and Linderman, Scott W. and
    Blei, David M.},
  title = {Reparameterization Gradients through Acceptance-Rejection Sampling Algorithms},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2017},
  eprint = {1610.05683}, archivePrefix = {arXiv}
}

@inproceedings{schulman2015,
  author = {Schulman, John and Levine, Sergey and Moritz, Philipp and Jordan, Michael I. and
    Abbeel, Pieter},
  title = {Trust Region Policy Optimization},
  booktitle = {International Conference on Machine Learning},
  year = {2015},
  eprint = {1502.05477}, archivePrefix = {arXiv}
}

@inproceedings{schulman2016,
  author = {Schulman, John and Moritz, Philipp and Levine, Sergey and Jordan, Michael I. and
    Abbeel, Pieter},
  title = {High-Dimensional Continuous Control Using Generalized Advantage Estimation},
  booktitle = {International Conference on Learning Representations},
  year = {2016},
  eprint = {1506.02438}, archivePrefix = {arXiv}
}

@article{schulman2017,
  author = {Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and
    Klimov, Oleg},
  title = {Proximal Policy Optimization Algorithms},
  journal = {arXiv preprint arXiv:1707.06347},
  year = {2017},
  eprint = {1707.06347}, archivePrefix = {arXiv}
}

@article{shao2024,
  author = {Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and
    Bi, Xiao and Zhang, Haowei and Zhang, Mingchuan and Li, Y. K. and Wu, Y. and Guo, Daya},
  title = {{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models},
  journal = {arXiv preprint arXiv:2402.03300},
  year = {2024},
  eprint = {2402.03300}, archivePrefix = {arXiv}
}

@inproceedings{shi2022,
  author = {Shi, Jiaxin and Zhou, Yuhao and Hwang, Jessica and Titsias, Michalis K. and
    Mackey, Lester},
  title = {Gradient Estimation with Discrete {Stein} Operators},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2202.09497}, archivePrefix = {arXiv}
}

@inproceedings{sutton1999,
  author = {Sutton, Richard S. and McAllester, David and Singh, Satinder and Mansour, Yishay},
  title = {Policy Gradient Methods for Reinforcement Learning with Function Approximation},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {12},
  year = {1999}
}

@inproceedings{titsias2022,
  author = {Titsias, Michalis K. and Shi, Jiaxin},
  title = {Double Control Variates for Gradient Estimation in Discrete Latent Variable Models},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2022},
  eprint = {2111.05300}, archivePrefix = {arXiv}
}

@inproceedings{tucker2017,
  author = {Tucker, George and Mnih, Andriy and Maddison, Chris J. and Lawson, Dieterich and
    Sohl-Dickstein, Jascha},
  title = {{REBAR}: Low-Variance, Unbiased Gradient Estimates for Discrete Latent Variable
    Models},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2017},
  eprint = {1703.07370}, archivePrefix = {arXiv}
}

@article{williams1992,
  author = {Williams, Ronald J.},
  title = {Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
    Learning},
  journal = {Machine Learning},
  volume = {8},
  number = {3--4},
  pages = {229--256},
  year = {1992},
  doi = {10.1007/BF00992696}
}

@article{yin2020,
  author = {Yin, Mingzhang and Ho, Nhat and Yan, Bowei and Qian, Xiaoning and Zhou, Mingyuan},
  title = {Probabilistic Best Subset Selection via Gradient-Based Optimization},
  journal = {arXiv preprint arXiv:2006.06448},
  year = {2020},
  eprint = {2006.06448}, archivePrefix = {arXiv}
}
"""


def _key(entry: str) -> str:
    found = re.match(r"@\w+\{([^\s,{}]+),", entry)
    if not found:
        raise ValueError(
            f"`papers` are names of {sorted(PAPERS)}, or BibTeX entries such as "
            f"'@article{{key, ...}}'. Received: {entry!r}"
        )
    return found[1]


PAPERS: dict[str, str] = {}
PAPERS.update({_key(entry): entry for entry in _BIBLIOGRAPHY.strip().split("\n\n")})


class Cited:
    """What comes from papers, and says from which.

    Attributes:
        papers: their names in `PAPERS`, or BibTeX entries, the main one first.
    """

    papers: tuple[str, ...] = ()

    def citation(self) -> str:
        r"""Returns BibTeX of the papers to cite, each once; empty where none is named.

        A class of a user's own inherits those of the class that it derives from, and names others
        by the class attribute `papers`: keys of this package's or BibTeX entries.

        Raises:
            ValueError: for a paper that is neither.

        Example:

        >>> import tf_relax
        >>> print(tf_relax.estimators.get("muprop").citation())
        @inproceedings{gu2016,
          author = {Gu, Shixiang and Levine, Sergey and Sutskever, Ilya and Mnih, Andriy},
          title = {{MuProp}: Unbiased Backpropagation for Stochastic Neural Networks},
          booktitle = {International Conference on Learning Representations},
          year = {2016},
          eprint = {1511.05176}, archivePrefix = {arXiv}
        }
        """
        return "\n\n".join(self.cited().values())

    def cited(self) -> dict[str, str]:
        """Returns the entries of `citation` by their keys."""
        entries = [PAPERS.get(paper, paper.strip()) for paper in self.papers]
        return {_key(entry): entry for entry in entries}


def together(*parts: Cited | None) -> dict[str, str]:
    """Returns the entries of several, each once, with the note that one of them may add."""
    entries: dict[str, str] = {}
    for part in parts:
        for key, entry in (part.cited() if part else {}).items():
            entries[key] = max(entries.get(key, ""), entry, key=len)
    return entries


def noted(entries: dict[str, str], note: str) -> dict[str, str]:
    """Returns entries whose first one says what of it is this package's."""
    key, entry = next(iter(entries.items()))
    return {**entries, key: f"{entry.removesuffix('}').rstrip()},\n  note = {{{note}}}\n}}"}
